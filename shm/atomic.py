"""Atomics, futex and clock for records in shared memory.

Every operation names a scalar field of a record: ``fetch_add(zone, "nr_free", -1)``. Loads acquire, stores release,
read-modify-writes are sequentially consistent. Interpreted mode uses the same machine instructions through a few
functions made with llvmlite alone, so interpreted and compiled processes may share a segment.

A plain read of shared memory in a loop may be hoisted out of it by the optimiser: a loop that waits for another
process reads with :func:`load_acquire` (a lint in the tests looks for it).
"""

import ctypes
import errno
import functools
import time
from typing import Any

from llvmlite import ir

from shm.access import ACCESS_ACQUIRE, ACCESS_ONCE, ACCESS_RELEASE
from shm.core import INSTRUMENTED, primitive
from shm.here import free_running, here, load_here
from shm.point import schedule_relax, schedule_wait
from shm.seen import seen_atomic, seen_fence, seen_load, seen_store

__all__ = [
    "address", "barrier", "clock_ns", "cmpxchg", "cpu_relax", "fetch_add", "fetch_and", "fetch_or", "fls", "futex_wait",
    "futex_wake", "load_acquire", "park", "prefetch", "process_exit", "process_signal", "read_once", "smp_mb",
    "store_release", "unpark", "write_once", "xchg",
]  # fmt: skip

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)

FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 9, 10
CLOCK_MONOTONIC = 1

# --- LLVM lowerings ---------------------------------------------------------------------------------------------------


def _widen(b: Any, value: Any, signed: bool) -> Any:
    if value.type == I64:
        return value
    return b.sext(value, I64) if signed else b.zext(value, I64)


def _narrow(b: Any, value: Any, bits: int) -> Any:
    return value if bits == 64 else b.trunc(value, ir.IntType(bits))


def _is_seen(rec: Any) -> bool:
    return INSTRUMENTED and not rec.of.cls._raw_


def _load(ordering: str, flags: int) -> Any:
    def lower(b: Any, rec: Any, name: str) -> Any:
        ptr, bits, signed = rec.field(name)

        def plain() -> Any:
            return b.load_atomic(ptr, ordering, bits // 8)

        return _widen(b, seen_load(b, ptr, flags, plain) if _is_seen(rec) else plain(), signed)

    return lower


def _store(ordering: str, flags: int) -> Any:
    def lower(b: Any, rec: Any, name: str, value: Any) -> None:
        ptr, bits, _ = rec.field(name)
        narrow = _narrow(b, value, bits)

        def plain() -> None:
            b.store_atomic(narrow, ptr, ordering, bits // 8)

        if _is_seen(rec):
            seen_store(b, ptr, narrow, flags, plain)
        else:
            plain()

    return lower


_lower_load, _lower_store = _load("acquire", ACCESS_ACQUIRE), _store("release", ACCESS_RELEASE)
_lower_read_once, _lower_write_once = _load("monotonic", ACCESS_ONCE), _store("monotonic", ACCESS_ONCE)


def _lower_rmw(kind: str) -> Any:
    def lower(b: Any, rec: Any, name: str, value: Any) -> Any:
        ptr, bits, signed = rec.field(name)
        if _is_seen(rec):
            seen_atomic(b, ptr)
        return _widen(b, b.atomic_rmw(kind, ptr, _narrow(b, value, bits), "seq_cst"), signed)

    return lower


_lower_add, _lower_xchg, _lower_or, _lower_and = (_lower_rmw(k) for k in ("add", "xchg", "or", "and"))


def _lower_cmpxchg(b: Any, rec: Any, name: str, old: Any, new: Any) -> Any:
    ptr, bits, signed = rec.field(name)
    if _is_seen(rec):
        seen_atomic(b, ptr)
    pair = b.cmpxchg(ptr, _narrow(b, old, bits), _narrow(b, new, bits), "seq_cst", "acquire")
    return _widen(b, b.extract_value(pair, 0), signed)


def _declare(b: Any, name: str, result: Any, args: list[Any], var_arg: bool = False) -> Any:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, args, var_arg=var_arg), name)


def _lower_address(b: Any, rec: Any) -> Any:
    return rec.address


def _lower_fence(b: Any) -> None:
    if INSTRUMENTED:
        seen_fence(b)
    b.fence("seq_cst")


def _lower_barrier(b: Any) -> None:
    b.fence("seq_cst", targetscope="singlethread")


def _lower_fls(b: Any, value: Any) -> Any:
    count = _declare(b, "llvm.ctlz.i64", I64, [I64, ir.IntType(1)])
    return b.sub(I64(64), b.call(count, [value, ir.IntType(1)(0)]))


def _scheduled(b: Any) -> Any:
    """The seat's address, and whether there is one."""
    seat = load_here(b)
    return seat, b.icmp_unsigned("!=", seat, I64(0))


def _seam(b: Any, of: Any, result: Any, args: list[Any]) -> Any:
    return b.call(_declare(b, of.__core__.symbol, result, [arg.type for arg in args]), args)


def _lower_relax(b: Any) -> None:
    with b.if_else(_scheduled(b)[1], likely=False) as (scheduled, free):
        with scheduled:
            _seam(b, schedule_relax, ir.VoidType(), [])
        with free:
            _lower_pause(b)


def _lower_pause(b: Any) -> None:
    if "x86" in b.module.triple:
        b.call(_declare(b, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
    else:
        b.fence("seq_cst")


def _timespec(b: Any) -> Any:
    with b.goto_entry_block():  # elsewhere, a loop would take more stack on every turn
        return b.alloca(ir.ArrayType(I64, 2))


def _lower_clock(b: Any) -> Any:
    slot = _timespec(b)
    seat, is_scheduled = _scheduled(b)
    with b.if_else(is_scheduled, likely=False) as (scheduled, free):
        with scheduled:  # a seat begins with the address of its clock
            clock = b.load(b.inttoptr(seat, I64.as_pointer()))
            virtual, here_ = b.load(b.inttoptr(clock, I64.as_pointer())), b.block
        with free:
            clock_gettime = _declare(b, "clock_gettime", I32, [I32, I64.as_pointer()])
            b.call(clock_gettime, [I32(CLOCK_MONOTONIC), b.bitcast(slot, I64.as_pointer())])
            pair = b.load(slot)
            real = b.add(b.mul(b.extract_value(pair, 0), I64(1_000_000_000)), b.extract_value(pair, 1))
            there = b.block
    now = b.phi(I64)
    now.add_incoming(virtual, here_)
    now.add_incoming(real, there)
    return now


def _syscall(b: Any, number: int, *args: Any) -> Any:
    call = _declare(b, "syscall", I64, [I64] * 7)
    padded = [I64(number), *args] + [I64(0)] * (6 - len(args))
    return b.call(call, padded)


def _number(name: str) -> int:
    import platform

    table = {
        "x86_64": {"futex": 202, "exit_group": 231, "tgkill": 234},
        "aarch64": {"futex": 98, "exit_group": 94, "tgkill": 131},
    }
    return table[platform.machine()][name]


def _lower_futex_wait(b: Any, rec: Any, name: str, expected: Any, bits: Any, deadline_ns: Any) -> Any:
    ptr, _, _ = rec.field(name)
    slot = _timespec(b)
    b.store(b.sdiv(deadline_ns, I64(1_000_000_000)), b.gep(slot, [I32(0), I32(0)]))
    b.store(b.srem(deadline_ns, I64(1_000_000_000)), b.gep(slot, [I32(0), I32(1)]))
    limit = b.select(b.icmp_signed("<", deadline_ns, I64(0)), I64(0), b.ptrtoint(slot, I64))
    at = b.ptrtoint(ptr, I64)
    with b.if_else(_scheduled(b)[1], likely=False) as (scheduled, free):
        with scheduled:
            waited, here_ = _seam(b, schedule_wait, I64, [at, expected, deadline_ns]), b.block
        with free:
            out = _syscall(b, _number("futex"), at, I64(FUTEX_WAIT_BITSET), expected, limit, I64(0), bits)
            there = b.block
    result = b.phi(I64)
    result.add_incoming(waited, here_)
    result.add_incoming(out, there)
    return result


def _lower_futex_wake(b: Any, rec: Any, name: str, count: Any, bits: Any) -> Any:
    ptr, _, _ = rec.field(name)
    at = b.ptrtoint(ptr, I64)
    before = b.block
    with b.if_then(b.not_(_scheduled(b)[1]), likely=True):  # scheduled processes sleep on no futex but their own
        woken = _syscall(b, _number("futex"), at, I64(FUTEX_WAKE_BITSET), count, I64(0), I64(0), bits)
        there = b.block
    result = b.phi(I64)
    result.add_incoming(I64(0), before)
    result.add_incoming(woken, there)
    return result


def _lower_park(b: Any, rec: Any, name: str, expected: Any) -> None:
    at = b.ptrtoint(rec.field(name)[0], I64)
    _syscall(b, _number("futex"), at, I64(FUTEX_WAIT_BITSET), expected, I64(0), I64(0), I64(0xFFFFFFFF))


def _lower_unpark(b: Any, rec: Any, name: str) -> None:
    at = b.ptrtoint(rec.field(name)[0], I64)
    _syscall(b, _number("futex"), at, I64(FUTEX_WAKE_BITSET), I64(1), I64(0), I64(0), I64(0xFFFFFFFF))


def _lower_exit(b: Any, status: Any) -> None:
    _syscall(b, _number("exit_group"), status)


def _lower_signal(b: Any, pid: Any, number: Any) -> Any:
    return _syscall(b, _number("tgkill"), pid, pid, number)


def _lower_prefetch(b: Any, rec: Any) -> None:
    ptr = b.bitcast(rec.value, I8.as_pointer())
    fn = _declare(b, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    b.call(fn, [ptr, I32(0), I32(3), I32(1)])


# --- interpreted mode -------------------------------------------------------------------------------------------------


@functools.cache
def _native(op: str, bits: int) -> Any:
    """A machine-code atomic as a ctypes function, built with llvmlite (milliseconds, no numba)."""
    from shm.loader import native_function

    word = ir.IntType(bits)
    module = ir.Module(name=f"atomic_{op}_{bits}")
    fn = ir.Function(module, ir.FunctionType(word, [word.as_pointer(), word, word]), f"shm_atomic_{op}_{bits}")
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    ptr, one, two = fn.args
    if op == "load":
        b.ret(b.load_atomic(ptr, "acquire", bits // 8))
    elif op == "store":
        b.store_atomic(one, ptr, "release", bits // 8)
        b.ret(one)
    elif op == "cmpxchg":
        b.ret(b.extract_value(b.cmpxchg(ptr, one, two, "seq_cst", "acquire"), 0))
    elif op == "fence":
        b.fence("seq_cst")
        b.ret(one)
    else:
        b.ret(b.atomic_rmw(op, ptr, one, "seq_cst"))
    kind = {8: ctypes.c_int8, 16: ctypes.c_int16, 32: ctypes.c_int32, 64: ctypes.c_int64}[bits]
    return native_function(str(module), fn.name, kind, [ctypes.c_void_p, kind, kind])


def _do(op: str, rec: Any, name: str, one: int = 0, two: int = 0) -> int:
    field = getattr(type(rec), name)
    out = int(_native(op, field.size * 8)(ctypes.addressof(rec) + field.offset, one, two))
    kind = dict(type(rec)._fields_)[name]
    return out if kind(-1).value < 0 else out & ((1 << field.size * 8) - 1)


_libc = ctypes.CDLL(None, use_errno=True)


# --- the operations ---------------------------------------------------------------------------------------------------


@primitive(_lower_load, literal=(1,))
def load_acquire(rec: Any, name: str) -> int:
    """``smp_load_acquire(&rec->name)``"""
    return _do("load", rec, name)


@primitive(_lower_store, literal=(1,), void=True)
def store_release(rec: Any, name: str, value: int) -> None:
    """``smp_store_release(&rec->name, value)``"""
    _do("store", rec, name, value)


@primitive(_lower_read_once, literal=(1,))
def read_once(rec: Any, name: str) -> int:
    """``READ_ONCE(rec->name)``: whole, once, and in no order with anything else."""
    return int(getattr(rec, name))


@primitive(_lower_write_once, literal=(1,), void=True)
def write_once(rec: Any, name: str, value: int) -> None:
    """``WRITE_ONCE(rec->name, value)``"""
    setattr(rec, name, value)


@primitive(_lower_add, literal=(1,))
def fetch_add(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_add``: returns the old value."""
    return _do("add", rec, name, value)


@primitive(_lower_or, literal=(1,))
def fetch_or(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_or``: returns the old value."""
    return _do("or", rec, name, value)


@primitive(_lower_and, literal=(1,))
def fetch_and(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_and``: returns the old value."""
    return _do("and", rec, name, value)


@primitive(_lower_xchg, literal=(1,))
def xchg(rec: Any, name: str, value: int) -> int:
    """``xchg``: returns the old value."""
    return _do("xchg", rec, name, value)


@primitive(_lower_cmpxchg, literal=(1,))
def cmpxchg(rec: Any, name: str, old: int, new: int) -> int:
    """``cmpxchg``: returns what was there; it was replaced if that equals ``old``."""
    return _do("cmpxchg", rec, name, old, new)


@primitive(_lower_address)
def address(rec: Any) -> int:
    """Where the record lies in this process; only differences of addresses mean anything to others."""
    return ctypes.addressof(rec)


@primitive(_lower_fence, void=True)
def smp_mb() -> None:
    """Full memory barrier."""
    _native("fence", 64)(None, 0, 0)


@primitive(_lower_barrier, void=True)
def barrier() -> None:
    """``barrier()``: what this process does before is done before what it does after, for its own interrupts."""


@primitive(_lower_fls)
def fls(value: int) -> int:
    """``fls64()``: position of the highest set bit, counted from 1; 0 for 0."""
    return value.bit_length()


@primitive(_lower_relax, void=True, calls=(schedule_relax,))
def cpu_relax() -> None:
    """Tell the processor that this is a spin loop; in scheduled mode, somebody else's turn."""
    if not free_running():
        schedule_relax()


@primitive(_lower_clock)
def clock_ns() -> int:
    """CLOCK_MONOTONIC in ns: the same clock in every process; in scheduled mode, virtual time."""
    if not free_running():
        return ctypes.c_int64.from_address(ctypes.c_int64.from_address(here()).value).value
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@primitive(_lower_futex_wait, literal=(1,), calls=(schedule_wait,))
def futex_wait(rec: Any, name: str, expected: int, bits: int, deadline_ns: int) -> int:
    """Sleep while the 32-bit field holds ``expected``, until woken with one of ``bits`` or CLOCK_MONOTONIC passes
    ``deadline_ns`` (negative: never). Returns 0 when woken, else negative; spurious returns are possible."""
    if not free_running():
        at = ctypes.addressof(rec) + getattr(type(rec), name).offset
        return schedule_wait(at, expected, deadline_ns)
    limit = (ctypes.c_int64 * 2)(deadline_ns // 1_000_000_000, deadline_ns % 1_000_000_000)
    return _futex(rec, name, FUTEX_WAIT_BITSET, expected, limit if deadline_ns >= 0 else None, bits)


@primitive(_lower_futex_wake, literal=(1,))
def futex_wake(rec: Any, name: str, count: int, bits: int) -> int:
    """Wake at most ``count`` sleepers whose bits intersect ``bits``. Returns how many."""
    return _futex(rec, name, FUTEX_WAKE_BITSET, count, None, bits)


def _futex(rec: Any, name: str, op: int, value: int, limit: Any, bits: int) -> int:
    at = ctypes.addressof(rec) + getattr(type(rec), name).offset
    out = _libc.syscall(
        ctypes.c_long(_number("futex")), ctypes.c_void_p(at), ctypes.c_long(op), ctypes.c_long(value & 0xFFFFFFFF),
        ctypes.byref(limit) if limit is not None else None, None, ctypes.c_long(bits & 0xFFFFFFFF),
    )  # fmt: skip
    if out < 0 and ctypes.get_errno() not in (errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR):
        raise OSError(ctypes.get_errno(), "futex")
    return int(out)


@primitive(_lower_park, literal=(1,), void=True)
def park(rec: Any, name: str, expected: int) -> None:
    """``futex_wait`` on the host, also in scheduled mode: the process itself sleeps."""
    _futex(rec, name, FUTEX_WAIT_BITSET, expected, None, 0xFFFFFFFF)


@primitive(_lower_unpark, literal=(1,), void=True)
def unpark(rec: Any, name: str) -> None:
    """Wake the process that has :func:`park`\\ ed on the field."""
    _futex(rec, name, FUTEX_WAKE_BITSET, 1, None, 0xFFFFFFFF)


@primitive(_lower_exit, void=True)
def process_exit(status: int) -> None:
    """End this process at once, from any depth of the core (``exit_group``)."""
    import os

    os._exit(status)


@primitive(_lower_signal)
def process_signal(pid: int, number: int) -> int:
    """Signal a process's main thread (``tgkill``). Returns 0, or a negative number when it is gone."""
    return int(_libc.syscall(ctypes.c_long(_number("tgkill")), *(ctypes.c_long(v) for v in (pid, pid, number))))


@primitive(_lower_prefetch, void=True)
def prefetch(rec: Any) -> None:
    """Ask for the record's cache line."""
