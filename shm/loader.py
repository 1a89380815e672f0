"""Native code of the core: from the cache in milliseconds, or compiled first.

The cache lies in ``$EMU_CACHE`` (default ``~/.cache/emu``): ``bc/`` holds bitcode by function, ``obj/`` one object file
by program. Names are hashes of everything the content depends on, files appear by rename, so writers never meet half
a file; a lock file keeps two processes from compiling the same functions, or linking the same program, at once.
"""

import ctypes
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from shm import program
from shm.parent import end_with_parent
from shm.core import INTERPRETED, CoreInfo, Entry

__all__ = ["cache_dir", "is_warm", "load", "native_function"]

Progress = Callable[[int, int, str], None]

_keep: list[Any] = []
_loaded: dict[str, "tuple[int, _Program]"] = {}  # address and program of entries, by symbol


def cache_dir() -> Path:
    """Where compiled code is kept."""
    home = os.environ.get("EMU_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "emu")
    return Path(home).expanduser()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(fd, "wb") as out:
        out.write(content)
    os.replace(name, path)


@contextmanager
def _only_one(program: str) -> Iterator[Callable[[bool], None]]:
    """Nobody else builds that program. The function given says whether nobody may compile functions either: one file
    and one descriptor, since closing any other would give the program's lock away."""
    cache_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(cache_dir() / "lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, int(program[:12], 16))  # a byte for each program
        yield lambda alone: fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_UN)


class _Program:
    """The functions behind some entries, with their cache paths."""

    def __init__(self, entries: list[Entry]) -> None:
        tools = program.toolchain()
        self.entries = {e.__core__.symbol for e in entries}
        self.infos = program.closure(entries)
        keys = {symbol: program.key_of_function(info, tools) for symbol, info in self.infos.items()}
        self.bitcode = {symbol: cache_dir() / "bc" / f"{key}.bc" for symbol, key in keys.items()}
        self.object = cache_dir() / "obj" / f"{program.key_of_program(keys.values(), self.entries)}.o"

    def compiled(self, progress: Progress | None) -> dict[str, bytes]:
        """Bitcode of all functions: from the cache, or compiled now on all cores."""
        known = {s: p.read_bytes() for s, p in self.bitcode.items() if p.exists()}
        missing = [s for s in self.infos if s not in known]
        total = len(self.infos) + 1
        if missing:
            from shm import compiler  # noqa: F401 - once, before the forks

            _forked.update(self.infos)
            workers = max(1, min(len(os.sched_getaffinity(0)), len(missing)))
            with ProcessPoolExecutor(workers, get_context("fork"), _end_with, (os.getpid(),)) as pool:
                for job in as_completed([pool.submit(_front_end, s) for s in missing]):
                    symbol, known[symbol] = job.result()
                    _write(self.bitcode[symbol], known[symbol])
                    if progress:
                        progress(len(known), total, symbol)
        return known

    def build(self, progress: Progress | None) -> None:
        """Compile what the cache lacks, then link. Several processes may link different programs at the same time."""
        with _only_one(self.object.stem) as alone:
            if self.object.exists():
                return
            alone(True)
            known = self.compiled(progress)
            alone(False)
            from shm import compiler

            linked = compiler.link({s: known[s] for s in self.infos}, self.infos, self.entries)
            _write(self.object, linked)
        if progress:
            progress(len(known) + 1, len(known) + 1, "linked")


_forked: dict[str, CoreInfo] = {}


def _end_with(parent: int) -> None:
    """A compiling process ends when its parent is killed: it holds the lock of the cache as well."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _front_end(symbol: str) -> tuple[str, bytes]:
    from shm import compiler

    return symbol, compiler.front_end(_forked[symbol])


def is_warm(entries: Iterable[Entry]) -> bool:
    """Whether :func:`load` would find the object file."""
    return INTERPRETED or _Program(list(entries)).object.exists()


def _panic(name: bytes) -> None:
    os.write(2, b"core: " + name + b": an index out of bounds or another error that C would not have noticed\n")
    os.abort()


_shm_panic = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_panic)


def _new_engine() -> Any:
    # one for each program: two programs may have an entry of the same name
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.add_symbol("shm_panic", ctypes.cast(_shm_panic, ctypes.c_void_p).value)
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    _keep.append(engine)
    return engine


def load(entries: Iterable[Entry], progress: Progress | None = None) -> None:
    """Bind native code to the entries: from the cache, or compiled now. Nothing to do when interpreted.

    Call it before forking: children inherit the code. ``progress(done, total, what)`` is told while compiling. The
    entries are one program, also where some of them have their code from another one already.
    """
    wanted = list(entries)
    todo = [e for e in wanted if e.native is None]
    if INTERPRETED or not todo:
        return
    made = _Program(wanted)
    if not made.object.exists():
        made.build(progress)
    engine = _new_engine()
    code = llvm.ObjectFileRef.from_data(made.object.read_bytes())
    engine.add_object_file(code)
    engine.finalize_object()
    _keep.append(code)
    for e in todo:
        at = int(engine.get_function_address(e.__core__.symbol))
        _loaded[e.__core__.symbol] = at, made
        e.native = _function(at, e.__core__)


def _function(address: int, info: CoreInfo) -> Callable[..., Any]:
    sig = info.signature
    kinds = [ctypes.c_int64 if t is int else ctypes.c_void_p for t in sig.params]
    native = ctypes.CFUNCTYPE(ctypes.c_int64 if sig.returns else None, *kinds)(address)
    records = [i for i, t in enumerate(sig.params) if t is not int]

    def call(*args: Any) -> Any:
        passed = list(args)
        for i in records:
            passed[i] = ctypes.addressof(passed[i])
        return native(*passed)

    return call


def entry_address(e: Entry) -> int:
    """Where a loaded entry's native code begins."""
    return _loaded[e.__core__.symbol][0]


def loaded_program(e: Entry) -> tuple[bytes, dict[str, str], dict[str, int]]:
    """The object file that an entry was loaded from, the names of its functions and the addresses of its entries, by
    symbol."""
    made = _loaded[e.__core__.symbol][1]
    names = {symbol: info.body.__name__ for symbol, info in made.infos.items()}
    return made.object.read_bytes(), names, {symbol: at for symbol, (at, of) in _loaded.items() if of is made}


def native_address(text: str, symbol: str) -> int:
    """Where the code of one function lies that is made from LLVM assembly text, unoptimised."""
    engine = _new_engine()
    module = llvm.parse_assembly(text)
    engine.add_module(module)
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def native_function(text: str, symbol: str, restype: Any, argtypes: list[Any]) -> Callable[..., int]:
    """One function from LLVM assembly text; for the interpreted mode's atomics."""
    return ctypes.CFUNCTYPE(restype, *argtypes)(native_address(text, symbol))
