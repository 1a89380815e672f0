"""Core functions: the same result in every mode, and an error that names the function for whatever can't be one."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import loader, program
from shm.atomic import fetch_add, load_acquire
from shm.core import INTERPRETED, MODES, CoreError, OnStack, core, entry, implements, seam
from shm.struct import Array, At, Struct, array, embed, fixed, i16, i32, i64, size_of, struct, u8, u32
from tests.shm.helpers import finish, start

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
from tests.shm import test_core as model

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


# --- errors -----------------------------------------------------------------------------------------------------------

BAD: list[Any] = []
NUMBER = 1.5


def bad(says: str) -> Callable[[Any], Any]:
    def remember(fn: Any) -> Any:
        BAD.append(pytest.param(entry(fn), says, id=fn.__name__))
        return fn

    return remember


@bad("'missing'")
def reads_a_missing_field(o: Outer) -> int:
    return o.missing  # type: ignore[attr-defined]


@bad("'missing'")
def writes_a_missing_field(o: Outer) -> None:
    o.missing = 1  # type: ignore[attr-defined]


@bad("'undefined' is not defined")
def uses_an_unknown_name(o: Outer) -> int:
    return undefined  # type: ignore[name-defined] # noqa: F821


@bad("the core can't use math \\(module\\)")
def uses_a_module(o: Outer) -> int:
    return math.isqrt(o.total)


@bad("the core can't use time \\(module\\)")
def uses_the_clock(o: Outer) -> int:
    return time.time_ns() + o.time


@bad("the core can't use NUMBER \\(float\\)")
def uses_a_float(o: Outer) -> int:
    return o.total < NUMBER


@bad("something in it is a float")
def divides(o: Outer) -> int:
    return o.total / 2  # type: ignore[return-value]


@bad("something in it is a float")
def writes_a_float(o: Outer) -> None:
    o.total = o.total * 0.5  # type: ignore[assignment]


@bad("No conversion from none to int64")
def returns_only_sometimes(o: Outer) -> int:
    if o.total:
        return 1
    return None  # type: ignore[return-value]


@bad("No conversion from Outer")
def returns_a_record(o: Outer) -> int:
    return o  # type: ignore[return-value]


@bad("No conversion from int64 to none")
def returns_what_it_does_not_declare(o: Outer) -> None:
    return o.total  # type: ignore[return-value]


@bad("argument 2 must be a literal string")
def names_a_field_at_run_time(o: Outer, n: int) -> int:
    return load_acquire(o, n)  # type: ignore[arg-type]


@bad("rows is no integer field")
def is_atomic_on_an_array(o: Outer) -> int:
    return load_acquire(o, "rows")


@bad("'missing'")
def is_atomic_on_a_missing_field(o: Outer) -> int:
    return fetch_add(o, "missing", 1)


@bad(r"add_up\(\) missing 1 required positional argument")
def calls_with_too_few(o: Outer) -> int:
    return add_up(o.inner)  # type: ignore[call-arg]


@bad(r"add_up\(\) takes 3 positional arguments but 4 were given")
def calls_with_too_many(o: Outer) -> int:
    return add_up(o.inner, 1, 2)  # type: ignore[call-arg]


@bad("given where Inner is declared")
def passes_the_wrong_struct(o: Outer) -> int:
    return add_up(o, 1)  # type: ignore[arg-type]


@bad("given where an int is declared")
def passes_a_struct_as_a_number(o: Outer) -> int:
    return add_up(o.inner, o)  # type: ignore[arg-type]


@bad("given where Inner is declared")
def passes_a_number_as_a_struct(o: Outer) -> int:
    return add_up(5, 5)  # type: ignore[arg-type]


@bad("needs numba_gil_ensure, which only numba has")
def prints(o: Outer) -> int:
    print(o.total)  # noqa: T201
    return 0


@bad("fixed: the core can't write it")
def writes_a_fixed_field(o: Outer) -> int:
    o.place = 1
    return 0


@bad("Inner can't be assigned as a whole")
def assigns_a_record(o: Outer) -> int:
    o.inner = o.rows[0]
    return 0


@bad("listcomp")
def allocates(o: Outer) -> int:
    return len([i for i in range(o.total)])  # noqa: C416


@bad("")
def only_raises(o: Outer) -> int:
    raise ValueError("never")


@bad("a core parameter has no annotation")
def has_no_annotation(o: Outer, n) -> int:  # type: ignore[no-untyped-def]
    return 0


@bad("a core parameter has no annotation")
def has_stars(o: Outer, *rest: int) -> int:
    return 0


@bad("a core parameter is an int or a Struct, not <class 'float'>")
def takes_a_float(o: Outer, f: float) -> int:
    return 0


@bad("a core parameter is an int or a Struct, not .*Outer | None")
def takes_perhaps_a_struct(o: Outer | None) -> int:
    return 0


@bad("a core function returns int, bool or None")
def returns_text(o: Outer) -> str:
    return ""


@bad("a core function returns int, bool or None")
def does_not_say_what_it_returns(o: Outer):  # type: ignore[no-untyped-def]
    return 0


@bad("name 'Unknown' is not defined")
def takes_an_unknown_type(o: "Unknown") -> int:  # type: ignore[name-defined] # noqa: F821
    return 0


@pytest.mark.compiled
@pytest.mark.parametrize(("function", "says"), BAD)
def test_what_cant_be_compiled_is_an_error_that_names_the_function(function: Any, says: str) -> None:
    with pytest.raises(CoreError, match=rf"(?s)\.{function.__name__}: .*{says}"):
        loader.load([function])
    assert function.native is None


@core
def broken_inside(o: Outer) -> int:
    return o.missing  # type: ignore[attr-defined]


@entry
def calls_something_broken(o: Outer) -> int:
    return broken_inside(o)


@pytest.mark.compiled
def test_the_error_names_the_callee_when_that_is_broken() -> None:
    with pytest.raises(CoreError, match=r"\.broken_inside: "):
        loader.load([calls_something_broken])


@pytest.mark.compiled
def test_an_entry_must_be_loaded_before_it_is_called() -> None:
    with pytest.raises(CoreError, match=r"calls_something_broken: call loader.load\(\) first"):
        calls_something_broken(Outer())


def test_a_field_may_have_the_name_of_a_module() -> None:
    assert "math" not in program.globals_of(everything.fn)
    assert "math" in program.globals_of(uses_a_module)


# --- programs and their keys ------------------------------------------------------------------------------------------

MODULE = '''
from shm.core import core, entry
from shm.struct import Struct, i64, i32, struct

@struct
class S(Struct):
    a: int = i64()

LIMIT = 4

@core
def leaf(s: S, n: int) -> int:
    """Say something."""
    return n + 1

@core
def middle(s: S, n: int) -> int:
    return leaf(s, n) * LIMIT

@entry
def main(s: S, n: int) -> int:
    return middle(s, n)  # a comment
'''


def module(old: str = "", new: str = "") -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "some_module"}
    assert old in MODULE
    exec(MODULE.replace(old, new), scope)
    return scope


def keys(scope: dict[str, Any]) -> dict[str, str]:
    tools = program.toolchain()
    found = program.closure([scope["main"]])
    made = {symbol.removeprefix("some_module_"): program.key_of_function(info, tools) for symbol, info in found.items()}
    return {**made, "program": program.key_of_program(made.values(), ["some_module_main"])}


EDITS = {
    "nothing": ("", "", set()),
    "a comment": ("# a comment", "# another", set()),
    "a docstring": ("Say something.", "Say it better.", set()),
    "a callee's body": ("n + 1", "n + 2", {"leaf"}),
    "a callee's operator": ("n + 1", "n - 1", {"leaf"}),
    "a constant": ("LIMIT = 4", "LIMIT = 5", {"middle"}),
    "a layout": ("i64()", "i32()", {"leaf", "middle", "main"}),
    "a callee's signature": ("def leaf(s: S, n: int) -> int", "def leaf(s: S, n: int) -> None", {"leaf", "middle"}),
    "a decorator": ("@core\ndef leaf", "@core(inline=True)\ndef leaf", {"leaf"}),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_keys_of_what_it_touches_and_of_the_program(edit: str) -> None:
    old, new, touched = EDITS[edit]
    before, after = keys(module()), keys(module(old, new))
    assert {name for name in before if before[name] != after[name]} == touched | ({"program"} if touched else set())


def test_an_edited_callee_is_compiled_in_at_once() -> None:
    """Also where two programs of one process have entries of the same name."""
    results = []
    for new in ("n + 1", "n + 2"):
        scope = module("n + 1", new)
        loader.load([scope["main"]])
        results.append((scope["main"], scope["S"]()))
    assert [main(s, 10) for main, s in results] == [44, 48]


@pytest.mark.compiled
def test_two_functions_of_one_name_in_a_program_are_refused() -> None:
    one, two = module(), module("n + 1", "n + 2")
    one["other"] = two["leaf"]
    exec("@entry\ndef both(s: S, n: int) -> int:\n    return leaf(s, n) + other(s, n)", one)
    with pytest.raises(CoreError, match=r"some_module.leaf: two functions have this name"):
        loader.load([one["both"]])


def test_interpreted_mode_has_nothing_to_load() -> None:
    if INTERPRETED:
        assert loader.is_warm([calls_something_broken])
        loader.load([calls_something_broken])
    assert calls_something_broken.native is None
