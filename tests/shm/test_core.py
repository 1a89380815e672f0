"""Core functions give the same result in every mode."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import loader
from shm.core import MODES, CoreError, entry, implements, seam
from shm.struct import size_of
from tests.shm.helpers import finish, start
from tests.shm.model import (
    Outer,
    arithmetic,
    everything,
    moves_by_place,
    neighbour_total,
    returns_nothing,
    returns_truth,
    stack_twice,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([everything, arithmetic, stack_twice, neighbour_total, moves_by_place, returns_nothing, returns_truth])


# --- the modes --------------------------------------------------------------------------------------------------------


PROGRAM = """
import sys
from shm import loader
from shm.core import CHECKED, core, entry, implements
from shm.point import Party
from shm.struct import Array, Struct, array, i64, struct
from tests.shm import model

@struct
class Table(Struct):
    cells: Array[int] = array(i64, 4)

@core
def cell(t: Table, at: int) -> int:
    return t.cells[at]

@entry
def read(t: Table, at: int) -> int:
    return cell(t, at)

@implements(model.on_finish)
def told(o: model.Outer, value: int) -> int:
    return value * 2

loader.load([model.everything, model.arithmetic, model.stack_twice, read])
o = model.Outer()
for n in (0, 1, -7, 1000, 20000):
    print(model.everything(o, n), bytes(o).hex())
print([model.arithmetic(a, b, k) for a in (-17, 5) for b in (-3, 4) for k in range(6)], model.stack_twice(5))
print([read(Table((4, 5, 6, 7)), at) for at in (0, 3)])
if CHECKED:
    sys.stdout.flush()
    read(Table(), 4)
"""
BELOW = PROGRAM.replace("read(Table(), 4)", "read(Table(), -1)")


@pytest.mark.slow
def test_all_modes_give_the_same_result_and_the_careful_ones_check_bounds(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    running = {mode: start(tmp_path / "program.py", EMU_MODE=mode) for mode in MODES}
    ended = {mode: finish(process) for mode, process in running.items()}
    status, out, err = zip(*(ended[mode] for mode in MODES), strict=True)
    assert out[0] == out[1] == out[2] == out[3] != ""
    assert status == (0, -6, 1, 0)
    assert err[0] == err[3] == ""
    assert err[1] == "core: __main___cell: an index out of bounds or another error that C would not have noticed\n"
    assert err[2].endswith("IndexError: invalid index\n")


@pytest.mark.slow
def test_an_index_below_zero_is_out_of_bounds(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(BELOW)
    assert finish(start(tmp_path / "program.py", EMU_MODE="checked"))[0] == -6


def test_an_unknown_mode_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import shm.core")
    status, out, err = finish(start(tmp_path / "program.py", EMU_MODE="fast"))
    assert (status, out) == (2, "")
    assert err == "EMU_MODE=fast: not one of compiled, checked, interpreted, instrumented\n"


@given(n=st.integers(-30000, 30000))
def test_native_code_does_what_the_python_does(n: int) -> None:
    one, two = Outer(), Outer()
    assert everything(one, n) == everything.fn(two, n)
    assert bytes(one) == bytes(two)


words = st.integers(-(1 << 40), 1 << 40) | st.integers(-9, 9)


@given(a=words, b=words.filter(bool), which=st.integers(0, 5))
def test_integers_follow_python_not_c(a: int, b: int, which: int) -> None:
    assert arithmetic(a, b % 1000 or 1, which) == arithmetic.fn(a, b % 1000 or 1, which)


def test_an_on_stack_struct_is_zeroed_at_every_use() -> None:
    assert stack_twice(100) == stack_twice.fn(100) == 0


def test_a_fixed_field_is_what_it_was_at_the_call() -> None:
    o = Outer()
    for place in (3, -4):
        o.place = place
        assert moves_by_place(o, 5) == 5 * place


def test_at_reaches_records_before_and_behind() -> None:
    row = (Outer * 3)()
    for i in range(3):
        row[i].total = i
    size = size_of(Outer)
    assert [neighbour_total(row[1], offset) for offset in (-size, 0, size)] == [0, 1, 2]


def test_what_a_function_returns_is_the_same_kind_of_thing() -> None:
    o = Outer()
    assert returns_nothing(o) is returns_nothing.fn(o) is None
    assert returns_truth(o) == returns_truth.fn(o) == 1


# --- seams ------------------------------------------------------------------------------------------------------------


@seam
def hook(o: Outer, n: int) -> int:
    """Adds one."""
    return n + 1


@entry
def call_hook(o: Outer, n: int) -> int:
    return hook(o, n)


@seam
def replaced(o: Outer, n: int) -> int:
    """Never runs here."""
    return 0


@implements(replaced)
def replacement(o: Outer, n: int) -> int:
    o.total = n
    return n * 100


@entry
def call_replaced(o: Outer, n: int) -> int:
    return replaced(o, n)


def test_a_seam_is_its_default_until_somebody_implements_it() -> None:
    loader.load([call_hook, call_replaced])
    o = Outer()
    assert call_hook(o, 4) == call_hook.fn(o, 4) == 5
    assert call_replaced(o, 4) == call_replaced.fn(o, 4) == 400
    assert o.total == 4


def test_an_implementation_has_the_seams_signature() -> None:
    def wrong(o: Outer) -> int:
        return 0

    def silent(o: Outer, n: int) -> None:
        pass

    for function in (wrong, silent):
        with pytest.raises(CoreError, match=rf"{function.__name__}: its signature is not that of the seam .*_hook$"):
            implements(hook)(function)
