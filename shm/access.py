"""Every access to shared memory, seen: the mode ``EMU_MODE=instrumented``.

Compiled in this mode, each load, store and atomic of a record calls one of the seams below while its process has a
seat in a scheduled run. That is what KCSAN and TSan do to a program, and it gives a scheduled run three things: the
footprint of each step (which steps commute, so that only one order of them need be explored), the accesses that race
by happens-before, and store buffers, since a store needn't reach memory at once. Free-running processes pay a branch.

Structs of the scheduler itself say ``_raw_ = True`` and are never seen.
"""

from typing import Any

from llvmlite import ir

from shm.core import primitive, seam

__all__ = [
    "ACCESS_ACQUIRE", "ACCESS_ATOMIC", "ACCESS_ONCE", "ACCESS_RELEASE", "ACCESS_WRITE", "access_atomic",
    "access_fence", "access_load", "access_range", "access_store", "peek", "poke",
]  # fmt: skip

ACCESS_WRITE = 1
ACCESS_ONCE = 2  # READ_ONCE(), WRITE_ONCE(): marked, but in no order with anything
ACCESS_ACQUIRE = 4
ACCESS_RELEASE = 8
ACCESS_ATOMIC = 16  # read-modify-write, a full barrier

I64 = ir.IntType(64)
SIZES = (1, 2, 4, 8)


def _by_size(b: Any, nr_bytes: Any, act: Any) -> list[tuple[Any, Any]]:
    """A switch over the size of an access; what ``act`` makes in each case, with its block."""
    done = b.append_basic_block("sized")
    blocks = [b.append_basic_block(f"size{size}") for size in SIZES]
    switch = b.switch(nr_bytes, blocks[-1])
    made = []
    for size, block in zip(SIZES, blocks, strict=True):
        if size != SIZES[-1]:
            switch.add_case(I64(size), block)
        b.position_at_end(block)
        made.append((act(ir.IntType(8 * size)), b.block))
        b.branch(done)
    b.position_at_end(done)
    return made


def _lower_peek(b: Any, at: Any, nr_bytes: Any) -> Any:
    def act(word: Any) -> Any:
        value = b.load(b.inttoptr(at, word.as_pointer()))
        return value if word == I64 else b.zext(value, I64)

    made = _by_size(b, nr_bytes, act)
    out = b.phi(I64)
    for value, block in made:
        out.add_incoming(value, block)
    return out


def _lower_poke(b: Any, at: Any, nr_bytes: Any, value: Any) -> None:
    _by_size(b, nr_bytes, lambda word: b.store(value if word == I64 else b.trunc(value, word),
                                               b.inttoptr(at, word.as_pointer())))  # fmt: skip


@primitive(_lower_peek)
def peek(at: int, nr_bytes: int) -> int:
    """What is at an address of this process, without sign; nobody sees it."""
    raise NotImplementedError("interpreted mode isn't instrumented")


@primitive(_lower_poke, void=True)
def poke(at: int, nr_bytes: int, value: int) -> None:
    """Write to an address of this process; nobody sees it."""
    raise NotImplementedError("interpreted mode isn't instrumented")


@seam
def access_load(at: int, nr_bytes: int, flags: int, where: int) -> int:
    """A load: its value without sign. ``where``: the number of the function that it is in."""
    return peek(at, nr_bytes)


@seam
def access_store(at: int, nr_bytes: int, value: int, flags: int, where: int) -> None:
    """A store."""
    poke(at, nr_bytes, value)


@seam
def access_atomic(at: int, nr_bytes: int, flags: int, where: int) -> None:
    """An atomic read-modify-write is about to be done."""


@seam
def access_range(at: int, nr_bytes: int, where: int) -> None:
    """Many bytes have been read at once."""


@seam
def access_fence() -> None:
    """A full barrier."""
