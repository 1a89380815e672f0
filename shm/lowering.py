"""Atomics, futex and clock as LLVM: what :mod:`shm.atomic` compiles to."""

from typing import Any

from llvmlite import ir

from shm.access import ACCESS_ACQUIRE, ACCESS_ONCE, ACCESS_RELEASE
from shm.core import INSTRUMENTED
from shm.here import load_here
from shm.point import schedule_relax, schedule_wait
from shm.seen import seen_atomic, seen_fence, seen_load, seen_store

__all__ = [
    "FUTEX_WAIT_BITSET", "FUTEX_WAKE_BITSET", "lower_add", "lower_address", "lower_and", "lower_barrier",
    "lower_clock", "lower_cmpxchg", "lower_exit", "lower_fence", "lower_fls", "lower_futex_wait", "lower_futex_wake",
    "lower_load", "lower_or", "lower_park", "lower_prefetch", "lower_read_once", "lower_relax", "lower_signal",
    "lower_store", "lower_unpark", "lower_write_once", "lower_xchg", "syscall_number",
]  # fmt: skip

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)

FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 9, 10
CLOCK_MONOTONIC = 1


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


lower_load, lower_store = _load("acquire", ACCESS_ACQUIRE), _store("release", ACCESS_RELEASE)
lower_read_once, lower_write_once = _load("monotonic", ACCESS_ONCE), _store("monotonic", ACCESS_ONCE)


def _lower_rmw(kind: str) -> Any:
    def lower(b: Any, rec: Any, name: str, value: Any) -> Any:
        ptr, bits, signed = rec.field(name)
        if _is_seen(rec):
            seen_atomic(b, ptr)
        return _widen(b, b.atomic_rmw(kind, ptr, _narrow(b, value, bits), "seq_cst"), signed)

    return lower


lower_add, lower_xchg, lower_or, lower_and = (_lower_rmw(k) for k in ("add", "xchg", "or", "and"))


def lower_cmpxchg(b: Any, rec: Any, name: str, old: Any, new: Any) -> Any:
    """``cmpxchg``: the value found, sequentially consistent."""
    ptr, bits, signed = rec.field(name)
    if _is_seen(rec):
        seen_atomic(b, ptr)
    pair = b.cmpxchg(ptr, _narrow(b, old, bits), _narrow(b, new, bits), "seq_cst", "acquire")
    return _widen(b, b.extract_value(pair, 0), signed)


def _declare(b: Any, name: str, result: Any, args: list[Any], var_arg: bool = False) -> Any:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, args, var_arg=var_arg), name)


def lower_address(b: Any, rec: Any) -> Any:
    """``address``: where a record lies."""
    return rec.address


def lower_fence(b: Any) -> None:
    """``smp_mb``"""
    if INSTRUMENTED:
        seen_fence(b)
    b.fence("seq_cst")


def lower_barrier(b: Any) -> None:
    """``barrier``: for the compiler only."""
    b.fence("seq_cst", targetscope="singlethread")


def lower_fls(b: Any, value: Any) -> Any:
    """``fls``: 64 less the leading zeros."""
    count = _declare(b, "llvm.ctlz.i64", I64, [I64, ir.IntType(1)])
    return b.sub(I64(64), b.call(count, [value, ir.IntType(1)(0)]))


def _scheduled(b: Any) -> Any:
    """The seat's address, and whether there is one."""
    seat = load_here(b)
    return seat, b.icmp_unsigned("!=", seat, I64(0))


def _seam(b: Any, of: Any, result: Any, args: list[Any]) -> Any:
    return b.call(_declare(b, of.__core__.symbol, result, [arg.type for arg in args]), args)


def lower_relax(b: Any) -> None:
    """``cpu_relax``: a pause, or in scheduled mode the turn of another."""
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


def lower_clock(b: Any) -> Any:
    """``clock_ns``: CLOCK_MONOTONIC, or in scheduled mode the virtual time that the seat points to."""
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


def syscall_number(name: str) -> int:
    """A system call's number on this host's architecture. Raises KeyError where there is none."""
    import platform

    table = {
        "x86_64": {"futex": 202, "exit_group": 231, "tgkill": 234},
        "aarch64": {"futex": 98, "exit_group": 94, "tgkill": 131},
    }
    return table[platform.machine()][name]


def lower_futex_wait(b: Any, rec: Any, name: str, expected: Any, bits: Any, deadline_ns: Any) -> Any:
    """``futex_wait``: the system call's result; in scheduled mode a blocked state."""
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
            out = _syscall(b, syscall_number("futex"), at, I64(FUTEX_WAIT_BITSET), expected, limit, I64(0), bits)
            there = b.block
    result = b.phi(I64)
    result.add_incoming(waited, here_)
    result.add_incoming(out, there)
    return result


def lower_futex_wake(b: Any, rec: Any, name: str, count: Any, bits: Any) -> Any:
    """``futex_wake``: how many woke; in scheduled mode 0, as nobody there sleeps on this word."""
    ptr, _, _ = rec.field(name)
    at = b.ptrtoint(ptr, I64)
    before = b.block
    with b.if_then(b.not_(_scheduled(b)[1]), likely=True):  # scheduled processes sleep on no futex but their own
        woken = _syscall(b, syscall_number("futex"), at, I64(FUTEX_WAKE_BITSET), count, I64(0), I64(0), bits)
        there = b.block
    result = b.phi(I64)
    result.add_incoming(I64(0), before)
    result.add_incoming(woken, there)
    return result


def lower_park(b: Any, rec: Any, name: str, expected: Any) -> None:
    """``park``: a futex of the scheduler's own, in every mode."""
    at = b.ptrtoint(rec.field(name)[0], I64)
    _syscall(b, syscall_number("futex"), at, I64(FUTEX_WAIT_BITSET), expected, I64(0), I64(0), I64(0xFFFFFFFF))


def lower_unpark(b: Any, rec: Any, name: str) -> None:
    """``unpark``"""
    at = b.ptrtoint(rec.field(name)[0], I64)
    _syscall(b, syscall_number("futex"), at, I64(FUTEX_WAKE_BITSET), I64(1), I64(0), I64(0), I64(0xFFFFFFFF))


def lower_exit(b: Any, status: Any) -> None:
    """``process_exit``"""
    _syscall(b, syscall_number("exit_group"), status)


def lower_signal(b: Any, pid: Any, number: Any) -> Any:
    """``process_signal``"""
    return _syscall(b, syscall_number("tgkill"), pid, pid, number)


def lower_prefetch(b: Any, rec: Any) -> None:
    """``prefetch``: for reading, kept in all caches."""
    ptr = b.bitcast(rec.value, I8.as_pointer())
    fn = _declare(b, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    b.call(fn, [ptr, I32(0), I32(3), I32(1)])
