"""LLVM of instrumented mode: an access goes through a seam of ``shm.access`` while its process has a seat."""

import zlib
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from shm import access
from shm.here import load_here

__all__ = ["function_number", "in_function", "seen_atomic", "seen_fence", "seen_load", "seen_range",
           "seen_store"]  # fmt: skip

I64 = ir.IntType(64)
_where = 0  # the function that is being compiled


def function_number(name: str) -> int:
    """A number for a function's name, to report it by."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def in_function(name: str) -> None:
    """What is lowered from now on belongs to this function."""
    global _where
    _where = function_number(name)


def _call(b: Any, of: Any, result: Any, args: list[Any]) -> Any:
    symbol = of.__core__.symbol
    known = b.module.globals.get(symbol)
    kind = ir.FunctionType(result, [I64] * len(args))
    return b.call(known or ir.Function(b.module, kind, symbol), args)


def _has_seat(b: Any) -> Any:
    return b.icmp_unsigned("!=", load_here(b), I64(0))


def _wide(b: Any, value: Any) -> Any:
    return value if value.type == I64 else b.zext(value, I64)


def _bytes(pointer: Any) -> Any:
    return I64(pointer.type.pointee.width // 8)


def seen_load(b: Any, pointer: Any, flags: int, plain: Callable[[], Any]) -> Any:
    """The value at a pointer, of the pointee's width."""
    with b.if_else(_has_seat(b), likely=False) as (scheduled, free):
        with scheduled:
            args = [b.ptrtoint(pointer, I64), _bytes(pointer), I64(flags), I64(_where)]
            wide = _call(b, access.access_load, I64, args)
            one = wide if pointer.type.pointee == I64 else b.trunc(wide, pointer.type.pointee)
            here = b.block
        with free:
            two, there = plain(), b.block
    value = b.phi(pointer.type.pointee)
    value.add_incoming(one, here)
    value.add_incoming(two, there)
    return value


def seen_store(b: Any, pointer: Any, value: Any, flags: int, plain: Callable[[], Any]) -> None:
    """Store a value of the pointee's width."""
    with b.if_else(_has_seat(b), likely=False) as (scheduled, free):
        with scheduled:
            args = [b.ptrtoint(pointer, I64), _bytes(pointer), _wide(b, value), I64(flags | access.ACCESS_WRITE),
                    I64(_where)]  # fmt: skip
            _call(b, access.access_store, ir.VoidType(), args)
        with free:
            plain()


def seen_atomic(b: Any, pointer: Any) -> None:
    """A read-modify-write is about to be done at a pointer."""
    with b.if_then(_has_seat(b), likely=False):
        flags = access.ACCESS_WRITE | access.ACCESS_ATOMIC
        args = [b.ptrtoint(pointer, I64), _bytes(pointer), I64(flags), I64(_where)]
        _call(b, access.access_atomic, ir.VoidType(), args)


def seen_range(b: Any, at: Any, nr_bytes: Any) -> None:
    """Bytes are read at an address."""
    with b.if_then(_has_seat(b), likely=False):
        _call(b, access.access_range, ir.VoidType(), [at, nr_bytes, I64(_where)])


def seen_fence(b: Any) -> None:
    """A full barrier."""
    with b.if_then(_has_seat(b), likely=False):
        _call(b, access.access_fence, ir.VoidType(), [])
