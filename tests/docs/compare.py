"""Whether a command printed what the page shows."""

import re

LEFT_OUT = re.compile(r"^\[\.\.\.\]\n", re.MULTILINE)
HERE = re.escape("[...]")  # in a line: any words
# Of a schedule search: how many it took and how long, and digests; a point that is added anywhere changes them.
SEARCH = re.compile(r" +[\d,]+ schedules +\d+\.\d+ s +[\d,]+/s|[\d,]+ tries in \d+\.\d+ s|[0-9a-f]{16}")
NUMBER = re.compile(r"(?<![A-Za-z_])-?\d[\d,.]*%?")
MACHINE = re.compile(r"emu-\d+-[0-9a-f]{16}")
UNIT = re.compile(r"# (?:ns|us|ms|s)\b")


def exactly(text: str) -> str:
    """As it is, but for what every run of a search has anew."""
    return SEARCH.sub("<varies>", text)


def roughly(text: str) -> str:
    """Words and names; numbers, their units of time and the width of columns vary from run to run."""
    text = UNIT.sub("# <time>", NUMBER.sub("#", MACHINE.sub("<machine>", text)))
    text = re.sub(r"[─━]+", "─", text)
    return re.sub(r"[ ]+", " ", re.sub(r"(?m)^ +| +$", "", text))


def pattern(shown: str, exact: bool) -> str:
    """What the output must match, after the same treatment."""
    treat = exactly if exact else roughly
    parts = [re.escape(treat(part)).replace(HERE, ".*") for part in re.split(LEFT_OUT, shown)]
    return "(?:.*\n)*?".join(parts)


def matches(shown: str, out: str, err: str, exact: bool) -> bool:
    """A page may leave out what goes to stderr, which is progress mostly."""
    treat = exactly if exact else roughly
    return any(re.fullmatch(pattern(shown, exact), treat(output)) for output in (out, out + err))
