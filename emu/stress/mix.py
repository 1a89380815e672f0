"""What a CPU does while its locks are watched: a workload by name, or orders in given proportions.

::

    bulk repeat rand           the patterns of allocator papers
    fault                      processes that fault memory in and exit, freeing 32 pages at a time
    highorder                  blocks of order 2 to 9
    order=0:70,1:20,3:10       blocks of these orders in these proportions
    network mixed thp          as in emu run
    3*bulk                     the same on three CPUs
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emu.config import ConfigError
from emu.zone.mmzone import MAX_ORDER

__all__ = ["MIXES", "Mix", "mixes_of", "split_mixes"]

MIXES: dict[str, tuple[str, Mapping[int, int]]] = {
    **{name: (name, {}) for name in ("bulk", "repeat", "rand", "network", "mixed", "thp")},
    "fault": ("pagefault", {}),
    "highorder": ("orders", {2: 40, 3: 40, 4: 15, 9: 5}),
}
_ORDERS = re.compile(r"order=(.*)")
_TIMES = re.compile(r"(\d+)\*(.+)")


@dataclass(frozen=True)
class Mix:
    """A workload, and for ``orders`` the weight of each order."""

    name: str
    workload: str
    weights: Mapping[int, int] = field(default_factory=dict)


def _weights(text: str, mix: str) -> dict[int, int]:
    weights: dict[int, int] = {}
    for part in re.split(r"[,/]", text):
        order, _, weight = part.partition(":")
        if not order.isdecimal() or not (weight or "1").isdecimal() or int(order) >= MAX_ORDER:
            raise ConfigError(f"mix {mix}: {part!r} is no ORDER:WEIGHT with an order below {MAX_ORDER}")
        weights[int(order)] = int(weight or 1)
    if not 0 < sum(weights.values()) < 1 << 31:
        raise ConfigError(f"mix {mix}: no order has a weight")
    return weights


def _mix(text: str) -> Mix:
    if text in MIXES:
        return Mix(text, *MIXES[text])
    found = _ORDERS.fullmatch(text)
    if not found:
        raise ConfigError(f"mix {text}: there are {', '.join(MIXES)} and order=ORDER:WEIGHT,...")
    return Mix(text, "orders", _weights(found[1], text))


def mixes_of(texts: Sequence[str], cpus: int) -> list[Mix]:
    """Each CPU's mix: as they are listed, and from the beginning again."""
    listed: list[Mix] = []
    for text in texts:
        times = _TIMES.fullmatch(text)
        if times and not 1 <= int(times[1]) <= 256:
            raise ConfigError(f"mix {text}: give it to 1 to 256 CPUs")
        listed += [_mix(times[2])] * int(times[1]) if times else [_mix(text)]
    if not listed:
        raise ConfigError("mix: give one at least")
    return [listed[i % len(listed)] for i in range(cpus)]


def split_mixes(text: str) -> list[str]:
    """Mixes separated by commas, where ``order=`` has commas of its own."""
    out: list[str] = []
    for part in text.split(","):
        if out and re.fullmatch(r"\d+(:\d+)?", part) and "order=" in out[-1]:
            out[-1] += f",{part}"
        else:
            out.append(part)
    return out
