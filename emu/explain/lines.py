"""The kernel's own words, without what log daemons, dmesg and mail programs put around them."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Line", "bare", "clean"]

_DAY = r"[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d(?:\.\d+)?"
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*"
_PREFIX: Final = re.compile(
    r"(?:>[ \t]?"                                       # a quoted mail
    r"|<\d{1,3}>"                                       # the level, as the console and /proc/kmsg have it
    r"|[a-z]+ *:[a-z]+ *: "                             # dmesg --decode: facility and level
    rf"|(?:{_DAY}|{_ISO})(?: \S+)? kernel: *"           # journalctl, syslog
    rf"|(?:{_DAY}|{_ISO}) (?=\[)"                       # a console server
    r"|kernel: "
    r"|\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?"              # seconds since boot, and printk's caller
    r"|\[\d+: *[^\]:]+(?::[^\]:]+)*: *\d+\] ?"          # CPU, task and pid, as Android has them
    r"|\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}\] ?"  # dmesg -T
    r")"
)  # fmt: skip


class Line(NamedTuple):
    """One line of a file."""

    number: int
    text: str


def bare(text: str) -> str:
    """A line without its prefixes."""
    text = text.strip()
    while found := _PREFIX.match(text):
        text = text[found.end() :].lstrip(" \t")
    return text


def clean(lines: Iterable[str]) -> list[Line]:
    """All lines that have something to say."""
    found = (Line(number, bare(text)) for number, text in enumerate(lines, 1))
    return [line for line in found if line.text]
