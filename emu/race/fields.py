"""Fields of memory as a report names them: short, from where the actor stands, with names for numbers.

``node0 Normal.free_area[2].free_list[1].next`` is for machines; a reader wants ``nr_free``, counts, types, flags and
sequence numbers, and the links of lists only where a step does nothing else.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from emu.zone.mmzone import MIGRATETYPE_NAMES, ZONE_NAMES
from emu.zone.page import PAGE_FLAG_NAMES
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE, PB_SKIP
from emu.zone.vmstat_items import NODE_STAT_NAMES, ZONE_STAT_NAMES

if TYPE_CHECKING:
    from emu.race.replay import Write
    from emu.race.scenario import Scenario

__all__ = ["Namer", "variable_of_field"]

MOST = 6  # lines of one step
LINKS = re.compile(r"\.(next|prev)$")
HEADS = re.compile(r"(lists|free_list)\[\w+\]\.(next|prev)$")
SCRATCH = re.compile(
    r"^scenario\.|\.(bulk|batch|scratch|works|pagevecs)(\[\d+\])?\.(next|prev)$|\.kswapds\[\d+\]\.(step|cookie|runs|pressure"
    r"|paced|may_run|stolen_before)$|numa_stat|\.event_ring|lockdep|\.(heartbeat|result|_hole|irq_nesting|critical_site)$"
)
MINOR = re.compile(
    r"\.(next|prev|private|mapping|mapcount|zone|offline_passes|critical)$|vm_node_stat_diff|\.kcompactd_until"
)
PAGE = re.compile(r"page (\d+)\.(.+)")
BITS = ((PB_SKIP, "skip"), (PB_INITIALISED, "initialised"), (PB_OFFLINE, "offline"))


def variable_of_field(name: str) -> str:
    """The bare name: ``kswapd_order`` of ``node0.kswapd_order``, ``batch`` of ``pcp of cpu0, node0 Normal.batch``."""
    return re.sub(r"\[\d+\]$", "", name.rpartition(".")[2])


class Namer:
    """Names for a scenario's machine."""

    def __init__(self, scenario: "Scenario") -> None:
        self.nodes = scenario.shape.nodes
        self.zones = len(scenario.shape.zones)

    def short(self, name: str, actor: str) -> str:
        """A field's name as one sees it on a CPU: its own need no owner, the only zone none either."""
        own = re.sub(r"^(irq|work)", "cpu", actor)
        place = ""
        if found := re.match(r"(pcp|counters) of (\w+), node(\d+)(?: (\w+))?\.(.*)", name):
            what, party, nid, zone, rest = found.groups()
            whose = "" if party == own else f"{party}'s "
            return f"{whose}{what}{self._zone(nid, zone)}.{_items(rest, what == 'counters')}"
        if found := re.match(r"node(\d+)(?: (\w+))?\.(.*)", name):
            nid, zone, name = found.groups()
            place = self._zone(nid, zone).strip()
            return f"{place}.{_items(name, zone is None)}" if place else _items(name, zone is None)
        if found := re.match(r"vm\.kswapds\[(\d+)\]\.(.*)", name):  # local variables of kswapd()
            return f"{'local' if own == f'kswapd{found[1]}' else f'kswapd{found[1]}: local'} {found[2]}"
        if name.startswith((f"{own}.", "m.", "vm.")):
            name = name.partition(".")[2]
        return _items(name, False)

    def waiting(self, text: str, actor: str) -> str:
        """``waits for zone lock, held by cpu1``, with a short name."""
        verb, _, rest = text.partition(" for " if text.startswith("waits") else " on ")
        what, comma, holder = rest.partition(", held")
        return f"{verb} {'for' if verb == 'waits' else 'on'} {self.short(what, actor)}{comma}{holder}" if rest else text

    def _zone(self, nid: str, zone: str | None) -> str:
        words = [f"node{nid}"] if self.nodes > 1 else []
        if zone and self.zones > self.nodes:
            words.append(zone)
        return " " + " ".join(words) if words else ""

    def writes(self, writes: Sequence["Write"], actor: str, most: int = MOST) -> list[str]:
        """What a step wrote, one line each: what matters; if nothing does, how lists changed."""
        shown = [w for w in writes if not SCRATCH.search(w.name)]
        major = [w for w in shown if not MINOR.search(w.name)]
        ends = {w.name for w in shown if w.name.endswith(".zone") and w.new == 0}
        lines = list(_merged(self._line(w, actor, ends) for w in major or shown))
        if len(lines) > most:
            lines[most - 1 :] = [f"... and {len(lines) - most + 1} more"]
        return lines

    def _line(self, write: "Write", actor: str, ends: Collection[str]) -> tuple[str, str]:
        """Name and change. ``ends``: zonerefs without a zone now, which end their list."""
        if write.name.endswith(".zone_idx"):  # of a zoneref
            new = "none" if write.name.removesuffix("_idx") in ends else ZONE_NAMES[write.new]
            return self.short(write.name.removesuffix(".zone_idx"), actor), f"{ZONE_NAMES[write.old]} -> {new}"
        if found := PAGE.fullmatch(write.name):
            pfn, what = found.groups()
            if what == "page_flags":
                return f"page {pfn}", _flags(write.old, write.new)
            return f"page {pfn}: {what}", self.change(write)
        if write.name.startswith("pageblock "):
            return write.name, _block(write.old, write.new)
        return self.short(write.name, actor), self.change(write)

    @staticmethod
    def change(write: "Write") -> str:
        """``old -> new``"""
        if LINKS.search(write.name):
            end = "none" if HEADS.search(write.name) else "head"
            old, new = (end if value < 0 else f"page {value}" for value in (write.old, write.new))
            return f"{old} -> {new}"
        return f"{write.old} -> {write.new}"


def _items(name: str, of_node: bool) -> str:
    """Names for the numbers of counters, lists and marks."""

    def named(found: re.Match[str]) -> str:
        array, number = found[1], int(found[2])
        table: Sequence[str] = {
            "lists": MIGRATETYPE_NAMES, "free_list": MIGRATETYPE_NAMES, "watermark": ("min", "low", "high"),
            "vm_stat": NODE_STAT_NAMES if of_node else ZONE_STAT_NAMES, "vm_stat_diff": ZONE_STAT_NAMES,
            "vm_node_stat_diff": NODE_STAT_NAMES,
        }.get(array, ())  # fmt: skip
        return f"{array}[{table[number] if number < len(table) else number}]"

    name = re.sub(r"(\w+)\[(\d+)\]", named, name).removesuffix(".counter")
    if HEADS.search(name):
        name = name.replace("].next", "].first").replace("].prev", "].last")
    return name


def _flags(old: int, new: int) -> str:
    words = [("+" if new & bit else "-") + name for name, bit in PAGE_FLAG_NAMES.items() if (old ^ new) & bit]
    return " ".join(words) or "initialised"


def _block(old: int, new: int) -> str:
    words = [("+" if new & bit else "-") + name for bit, name in BITS if (old ^ new) & bit]
    types = [
        MIGRATETYPE_NAMES[value & PB_MIGRATE] for value in (old, new) if value & PB_MIGRATE < len(MIGRATETYPE_NAMES)
    ]
    if len(types) == 2 and types[0] != types[1]:
        words.insert(0, f"{types[0]} -> {types[1]}")
    return " ".join(words) or f"{old:#x} -> {new:#x}"


def _merged(lines: Iterable[tuple[str, str]]) -> Iterable[str]:
    """The same change of neighbouring pages, or of several CPUs' own, is one line."""
    grouped: dict[tuple[str, str], list[int]] = {}
    owners: dict[tuple[str, str], list[str]] = {}
    order: list[tuple[str, str, int]] = []
    for name, change in lines:
        found = re.match(r"(page|pageblock) (\d+)(.*)", name)
        whose = re.match(r"\w+'s (.*)", name)
        if whose:
            key = (whose[1], change)
            if key not in owners:
                order.append((*key, 2))
            owners.setdefault(key, []).append(name)
        elif found:
            key = (found[1] + "|" + found[3], change)
            if key not in grouped:
                order.append((*key, 1))
            grouped.setdefault(key, []).append(int(found[2]))
        else:
            order.append((name, change, 0))
    for name, change, what in order:
        if what != 1:
            names = owners.get((name, change), [name]) if what else [name]
            yield f"{names[0]} {change}" if len(names) == 1 else f"{len(names)} others' {name} {change}"
            continue
        kind, _, rest = name.partition("|")
        for first, last in _runs(grouped[name, change]):
            pages = f"{kind} {first}" if first == last else f"{kind}s {first}-{last}"
            yield f"{pages}{rest}{'' if rest else ':'} {change}"


def _runs(numbers: list[int]) -> Iterable[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
