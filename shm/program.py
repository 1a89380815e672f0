"""What a compiled program consists of, and the keys that say whether it must be compiled again.

A key covers a function's byte code, its constants, the value or signature of everything it names, the layouts of the
structs it touches, the mode and the versions. Comments and docstrings don't count. Nothing here needs numba.
"""

import functools
import hashlib
import opcode
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any, cast

import llvmlite.binding as llvm

from shm.access import access_atomic, access_fence, access_load, access_range, access_store
from shm.core import INSTRUMENTED, MODE, CoreError, CoreInfo, OnStack, Primitive, name_of
from shm.here import HereRecord
from shm.struct import At, layout_of

__all__ = ["closure", "globals_of", "key_of_function", "key_of_program", "toolchain"]

SEAMS: Any = (access_load, access_store, access_atomic, access_fence, access_range)
LOAD_GLOBAL, EXTENDED_ARG = opcode.opmap["LOAD_GLOBAL"], opcode.EXTENDED_ARG


def globals_of(fn: Any) -> dict[str, Any]:
    """The module globals that a core function names (attributes of modules are not followed)."""
    return {n: fn.__globals__[n] for n in _names_loaded(fn.__code__) if n in fn.__globals__}


@functools.cache
def _names_loaded(code: CodeType) -> list[str]:
    """The operands of LOAD_GLOBAL (``co_names`` holds fields too). ``dis`` says the same in thirty times the time,
    which every start of the program would wait for."""
    names = set()
    extended = 0
    for op, arg in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        arg |= extended
        extended = arg << 8 if op == EXTENDED_ARG else 0
        if op == LOAD_GLOBAL:
            names.add(code.co_names[arg >> 1])  # the low bit says whether a NULL is pushed as well
    return sorted(names)


def closure(roots: Iterable[Any]) -> dict[str, CoreInfo]:
    """All core functions that the roots reach, by symbol."""
    found: dict[str, CoreInfo] = {}
    todo: list[CoreInfo] = [root.__core__ for root in roots]
    if INSTRUMENTED:  # what every access calls
        todo += [of.__core__ for of in SEAMS]
    while todo:
        info = todo.pop()
        if found.get(info.symbol, info) is not info:
            raise CoreError(f"{name_of(info.body)}: two functions have this name")
        if info.symbol in found:
            continue
        found[info.symbol] = info
        for value in globals_of(info.body).values():
            if isinstance(value, Primitive):
                todo += [called.__core__ for called in value.calls]  # type: ignore[attr-defined]
            elif hasattr(value, "__core__"):
                todo.append(value.__core__)
    return dict(sorted(found.items()))


def toolchain() -> str:
    """Compiler versions and the host processor: object code depends on them."""
    versions = f"numba {version('numba')} llvmlite {version('llvmlite')}"
    here = Path(__file__).parent
    lowering = ("compiler", "records", "atomic", "lowering", "here", "seen", "access", "scan")
    sources = b"".join((here / f"{name}.py").read_bytes() for name in lowering)
    ours = hashlib.blake2b(sources, digest_size=8)
    versions += f" {ours.hexdigest()}"
    return f"{versions} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {MODE}"


def _code(fn: Any) -> str:
    return _code_object(fn.__code__, fn.__doc__)


def _code_object(code: CodeType, doc: Any) -> str:
    # a function inside a function is a constant, whose repr has an address
    consts = [_code_object(c, None) if isinstance(c, CodeType) else c for c in code.co_consts if c != doc]
    return f"{code.co_code.hex()} {consts} {code.co_names} {code.co_varnames}"


def _named(value: Any) -> str:
    if hasattr(value, "__core__"):
        return f"{value.__core__.symbol}{value.__core__.signature}"
    if isinstance(value, Primitive):
        return f"{value.__name__} {_code(value.lower)}"
    if isinstance(value, At | OnStack | HereRecord):
        return layout_of(cast("Any", value.cls))
    return repr(value)


def key_of_function(info: CoreInfo, tools: str) -> str:
    """Cache key of one function's bitcode."""
    layouts = [layout_of(t) for t in info.signature.params if t is not int]
    named = [f"{name}={_named(value)}" for name, value in globals_of(info.body).items()]
    parts = [info.symbol, _code(info.body), repr(info.signature), f"{info.inline} {info.cold}", *layouts, *named, tools]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def key_of_program(keys: Iterable[str], entries: Iterable[str]) -> str:
    """Cache key of a program's object file."""
    return hashlib.blake2b(" ".join([*sorted(keys), "|", *sorted(entries)]).encode(), digest_size=16).hexdigest()
