"""Looking at many records at once: as a loop over their fields would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import loader
from shm.core import INTERPRETED, CoreError, entry
from shm.scan import all_match, matches
from shm.struct import At, Struct, i16, i32, i64, size_of, struct, u8, u32

ASKED = "one=-1 two&0x0ff0=0x0120 three=0"


@struct
class Row(Struct):
    head: int = i64()
    one: int = i32()
    two: int = u32()
    three: int = i16()
    four: int = u8()
    five: int = u8()
    tail: int = i32()


row_at = At(Row)


@entry
def count_matching(rows: Row, nr: int) -> int:
    """One by one."""
    found = 0
    for i in range(nr):
        found += matches(row_at(rows, i * ROW), ASKED)
    return found


@entry
def all_are(rows: Row, nr: int) -> int:
    """All at once."""
    return all_match(rows, nr, ASKED)


@entry
def asks_for_more_than_a_register(rows: Row) -> int:
    """From the first byte to the last but a few: 32 bytes, more than a row has."""
    return matches(rows, "head=0 tail=0")


ROW = size_of(Row)


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([count_matching, all_are])


def rows_of(nr: int) -> tuple[Row, list[Row]]:
    memory = (Row * (nr + 1))()
    rows = list(memory)
    for row in rows:
        row.head, row.one, row.two, row.three, row.four, row.five, row.tail = 7, -1, 0xF000F12F, 0, 9, 8, 7
    return memory[0], rows


@given(nr=st.integers(0, 11), wrong=st.integers(0, 10), field=st.sampled_from(Row._fields_), bit=st.integers(0, 31))
def test_one_wrong_bit_is_seen_wherever_it_is(nr: int, wrong: int, field: tuple[str, type], bit: int) -> None:
    first, rows = rows_of(max(nr, wrong + 1))
    name = field[0]
    before = getattr(rows[wrong], name)
    setattr(rows[wrong], name, before ^ 1 << bit)
    asked = name in ("one", "three") or (name == "two" and 0x0FF0 >> bit & 1)
    spoilt = int(bool(asked) and getattr(rows[wrong], name) != before and wrong < nr)
    assert count_matching(first, nr) == nr - spoilt
    assert all_are(first, nr) == 1 - spoilt
    assert all_match(first, nr, ASKED) == 1 - spoilt


def test_what_does_not_fit_a_register_is_refused() -> None:
    if INTERPRETED:
        assert asks_for_more_than_a_register(Row()) == 1
        return
    with pytest.raises(CoreError, match="not in one register"):
        loader.load([asks_for_more_than_a_register])
