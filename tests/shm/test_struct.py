"""Struct layouts: the same for C, ctypes, numpy and numba."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.lockdep import Lockdep
from shm.lockstat import Histogram, LockStat
from shm.point import Party
from shm.ring import Ring
from shm.seqcount import Seqcount
from shm.spinlock_types import Spinlock
from shm.struct import (
    Array,
    At,
    Struct,
    address_of,
    array,
    dtype_of,
    embed,
    fixed,
    i8,
    i16,
    i32,
    i64,
    layout_of,
    offset_of,
    record_at,
    size_of,
    struct,
    u8,
    u16,
    u32,
)
from shm.waitqueue import WaitQueue

MAKERS = {
    "int8_t": i8, "uint8_t": u8, "int16_t": i16, "uint16_t": u16, "int32_t": i32, "uint32_t": u32, "int64_t": i64,
}  # fmt: skip


@struct
class Small(Struct):
    tag: int = u8()
    half: int = i16()
    odd: Array[int] = array(u8, 3)


@struct
class Big(Struct):
    """All that C rules are about: holes, nesting, arrays of arrays of structs, a tail to pad."""

    first: int = u8()
    wide: int = i64()
    one: Small = embed(Small)
    word: int = u32()
    many: Array[Small] = array(Small, 3)
    numbers: Array[int] = array(i32, 5)
    last: int = i8()


BIG_IN_C = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct small { uint8_t tag; int16_t half; uint8_t odd[3]; };
struct big { uint8_t first; int64_t wide; struct small one; uint32_t word; struct small many[3]; int32_t numbers[5];
             int8_t last; };
#define AT(field) printf("%zu ", offsetof(struct big, field))
int main(void) {
    AT(first); AT(wide); AT(one); AT(word); AT(many); AT(numbers); AT(last);
    printf("%zu %zu", sizeof(struct big), sizeof(struct small));
}
"""
BIG_LAYOUT = [0, 8, 16, 24, 28, 52, 72, 80, 8]


def make(name: str, fields: dict[str, Any], align: int = 0) -> type[Struct]:
    body: dict[str, Any] = {"__annotations__": dict.fromkeys(fields, int), **fields}
    return struct(type(name, (Struct,), {**body, "_align_": align} if align else body))


def shape(dtype: Any) -> list[tuple[str, int]]:
    return [(name, dtype.fields[name][1]) for name in dtype.names]


def test_offsets_are_those_of_c() -> None:
    names = [name for name, _ in Big._fields_]
    assert [*(offset_of(Big, name) for name in names), size_of(Big), size_of(Small)] == BIG_LAYOUT


@pytest.mark.tool
@pytest.mark.skipif(not shutil.which("cc"), reason="cc is not there")
def test_a_c_compiler_agrees(tmp_path: Path) -> None:
    (tmp_path / "big.c").write_text(BIG_IN_C)
    subprocess.run(["cc", "-o", tmp_path / "big", tmp_path / "big.c"], check=True)
    said = subprocess.run([tmp_path / "big"], check=True, capture_output=True, text=True).stdout
    assert [int(word) for word in said.split()] == BIG_LAYOUT


@settings(max_examples=50)
@given(kinds=st.lists(st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 4)), min_size=1, max_size=8))
def test_any_layout_is_the_same_for_ctypes_and_numpy(kinds: list[tuple[str, int]]) -> None:
    fields = {f"f{i}": array(MAKERS[k], n) if n else MAKERS[k]() for i, (k, n) in enumerate(kinds)}
    made = make("Any", fields)
    ours = dtype_of(made)
    formats = [(f"f{i}", k.removesuffix("_t"), (n,) if n else ()) for i, (k, n) in enumerate(kinds)]
    assert ours == np.dtype(formats, align=True)
    assert ours.itemsize == size_of(made)


@pytest.mark.compiled
@pytest.mark.parametrize("cls", [Small, Big, Spinlock, LockStat, Histogram, Lockdep, Party, Ring, WaitQueue, Seqcount])
def test_numba_agrees(cls: type[Struct]) -> None:
    from shm.records import struct_type

    record = struct_type(cls)
    names = [name for name, _ in cls._fields_]
    assert list(record.fields) == names
    assert [record.fields[name][0] for name in names] == [offset_of(cls, name) for name in names]
    assert record.size == size_of(cls) == dtype_of(cls).itemsize
    assert record is struct_type(cls)


def test_numpy_and_ctypes_see_the_same_memory() -> None:
    big = Big()
    big.wide = -5
    big.many[1].half = 77
    big.numbers[4] = 1 << 30
    seen = np.frombuffer(bytes(big), dtype=dtype_of(Big))[0]
    assert seen["wide"] == -5
    assert seen["many"][1]["half"] == 77
    assert list(seen["numbers"]) == [0, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(("length", "expected"), [(1, 64), (63, 64), (64, 64), (65, 128)])
def test_align_pads_the_size(length: int, expected: int) -> None:
    made = make("Padded", {"content": array(u8, length)}, align=64)
    assert size_of(made) == dtype_of(made).itemsize == expected
    assert offset_of(make("Two", {"one": embed(made), "two": embed(made)}), "two") == expected


def test_a_layout_line_changes_with_anything_that_moves_a_byte() -> None:
    fields = {"one": u32(), "two": i16()}
    variants = [
        make("S", fields),
        make("T", fields),
        make("S", {"one": u32(), "three": i16()}),
        make("S", {"two": i16(), "one": u32()}),
        make("S", {"one": fixed(u32), "two": i16()}),
        make("S", {"one": i32(), "two": i16()}),
        make("S", {"one": u32(), "two": i32()}),
        make("S", {"one": u32(), "two": array(i16, 1)}),
        make("S", {"one": u32(), "two": array(i16, 2)}),
        make("S", fields, align=64),
        make("S", {**fields, "four": embed(make("I", {"x": i8()}))}),
        make("S", {**fields, "four": embed(make("I", {"x": u8()}))}),
        make("S", {**fields, "four": array(make("I", {"x": u8()}), 1)}),
    ]
    lines = [layout_of(made) for made in variants]
    assert len(set(lines)) == len(lines)
    assert layout_of(make("S", {"one": u32(), "two": i16()})) == lines[0]
    assert not any("\n" in line for line in lines)


def test_records_are_views_of_memory_that_somebody_else_owns() -> None:
    owner = (ctypes.c_uint8 * size_of(Big))()
    one = record_at(Big, ctypes.addressof(owner))
    two = record_at(Big, ctypes.addressof(owner))
    one.many[2].half = -9
    assert two.many[2].half == -9
    assert address_of(two.many[2]) == ctypes.addressof(owner) + 28 + 16


def test_at_finds_a_record_behind_another() -> None:
    pair = (Small * 2)()
    At(Small)(pair[0], size_of(Small)).half = 3
    assert pair[1].half == 3
    assert At(Small)(pair[1], -size_of(Small)).half == 0
