"""What can't be compiled is an error in one line that names the function."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from shm import loader, program
from shm.atomic import fetch_add, load_acquire
from shm.core import INTERPRETED, CoreError, core, entry
from tests.shm.model import Outer, add_up, everything

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


def test_interpreted_mode_has_nothing_to_load() -> None:
    if INTERPRETED:
        assert loader.is_warm([calls_something_broken])
        loader.load([calls_something_broken])
    assert calls_something_broken.native is None
