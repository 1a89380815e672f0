"""What the tests of the pages would notice."""

import pytest

from tests.docs.compare import matches
from tests.docs.pages import commands, hidden_commands, not_run

PAGE = """\
```console
$ emu run --cpus 2 \\
      --mem 64M &
$ emu ps
a machine
```
<!-- not run: needs root -->
```console
$ trace-cmd record
```
```sh
emu gc   # clean up
```
"""


@pytest.mark.parametrize(
    ("shown", "out", "exact", "same"),
    [
        ("3 pages in 0.5 ms\n", "12 pages in 7 us\n", False, True),
        ("3 pages in 0.5 ms\n", "12 blocks in 7 us\n", False, False),
        ("3 pages\n", "4 pages\n", True, False),
        (
            "  random   21 schedules     0.01 s      2,629/s\n",
            "  random   4 schedules     0.02 s      29/s\n",
            True,
            True,
        ),
        ("one\n[...]\nfour\n", "one\ntwo\nthree\nfour\n", True, True),
        ("one\n[...]\nfour\n", "one\ntwo\nthree\n", True, False),
        ("one [...] three\n", "one two three\n", True, True),
        ("one [...] three\n", "one\nthree\n", True, False),
        ("clean\n", "clean\n2 problems\n", False, False),
        ("emu-12-00000000000000aa runs\n", "emu-7-0123456789abcdef runs\n", False, True),
    ],
)
def test_a_difference_is_seen(shown: str, out: str, exact: bool, same: bool) -> None:
    assert matches(shown, out, "", exact) == same


def test_errors_are_compared_and_progress_is_not() -> None:
    assert matches("emu: no\n", "", "emu: no\n", True)
    assert matches("done\n", "done\n", "50 %\n", True)
    assert not matches("done\n", "", "done?\n", True)


def test_commands_are_found() -> None:
    (first, second), (third,) = commands(PAGE)
    assert first.beside and " ".join(first.line.split()) == "emu run --cpus 2 --mem 64M &"
    assert (second.line, second.shown, second.beside) == ("emu ps", "a machine\n", False)
    assert third.line == "emu gc   # clean up"
    assert not_run(PAGE) == ["needs root"]


def test_a_command_outside_of_a_block_is_found() -> None:
    assert hidden_commands(PAGE) == []
    assert hidden_commands("Try\n\n    emu run --cpus 2\n\n```\n$ emu ps\n```\n") == [
        "    emu run --cpus 2",
        "$ emu ps",
    ]
