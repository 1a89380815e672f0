"""Programs and their keys: what an edit compiles again."""

from typing import Any

import pytest

from shm import loader, program
from shm.core import CoreError

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
