"""Structs and core functions that show what the core can say."""

from shm.atomic import fetch_add, load_acquire
from shm.core import OnStack, core, entry, seam
from shm.struct import Array, At, Struct, array, embed, fixed, i16, i32, i64, struct, u8, u32

FACTOR = 3
TABLE = (2, 3, 5, 7)


@struct
class Inner(Struct):
    tag: int = u8()
    values: Array[int] = array(i16, 4)


@struct
class Outer(Struct):
    inner: Inner = embed(Inner)
    rows: Array[Inner] = array(Inner, 3)
    total: int = i64()
    time: int = u32()  # the name of a module that this file has imported
    math: int = i32()
    place: int = fixed(i32)


@struct
class Other(Struct):
    total: int = i64()


scratch = OnStack(Inner)
outer_at = At(Outer)


@core
def add_up(inner: Inner, factor: int) -> int:
    total = 0
    for i in range(4):
        total += inner.values[i] * factor
    return total


@core(inline=True)
def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


@core(cold=True)
def is_odd(value: int) -> bool:
    return value & 1 != 0


@core
def note(o: Outer, value: int) -> None:
    o.total += value


@core
def gcd(a: int, b: int) -> int:
    if b == 0:
        return a
    return gcd(b, a % b)


@seam
def on_finish(o: Outer, value: int) -> int:
    """Nobody is told."""
    return -1


@entry
def everything(o: Outer, n: int) -> int:
    """Nested structs and arrays, calls of every kind, seams, globals, builtins, atomics."""
    for row in range(3):
        for i in range(4):
            o.rows[row].values[i] = row * n - i
        o.rows[row].tag = o.rows[row].tag + 250
    o.inner.values[3] = TABLE[2]
    note(o, add_up(o.rows[1], FACTOR) + add_up(o.inner, 1))
    fetch_add(o, "total", clamp(n, -5, 5))
    if is_odd(n) and not is_odd(n + 1):
        o.math = gcd(abs(n), 12)
    o.time = -1
    return on_finish(o, load_acquire(o, "total"))


@entry
def arithmetic(a: int, b: int, which: int) -> int:
    if which == 0:
        return a // b
    if which == 1:
        return a % b
    if which == 2:
        return a >> (b & 31)
    if which == 3:
        return (a << (b & 15)) ^ ~b
    if which == 4:
        return -a * b + (a < b) - (a == b)
    return (a & b) | clamp(a, b, b + 9)


@entry
def stack_twice(n: int) -> int:
    """Each use is zeroed, and two uses are two structs."""
    dirt = 0
    for i in range(n):
        one = scratch()
        two = scratch()
        dirt += one.tag + one.values[3] + two.tag + two.values[3]
        one.tag = i + 1
        one.values[3] = 7
        two.values[3] = one.values[3] + 1
        if one.values[3] != 7 or one.tag != i + 1:
            return -1
    return dirt


@entry
def neighbour_total(o: Outer, offset: int) -> int:
    return outer_at(o, offset).total


@entry
def moves_by_place(o: Outer, times: int) -> int:
    """A fixed field is read as often as Python has set it: once in each call."""
    moved = 0
    for _ in range(times):
        moved += o.place
    return moved


@entry
def returns_nothing(o: Outer) -> None:
    note(o, 1)


@entry
def returns_truth(o: Outer) -> bool:
    return o.total > 0
