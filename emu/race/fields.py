"""Fields of memory as a report names them: short, from where the actor stands, with names for numbers.

``node0 Normal.free_area[2].free_list[1].next`` is for machines; a reader wants ``nr_free``, counts, types, flags and
sequence numbers, and the links of lists only where a step does nothing else.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from emu.zone import gfp
from emu.zone.mmzone import MIGRATETYPE_NAMES, ZONE_BOOSTED_WATERMARK, ZONE_NAMES, ZONE_RECLAIM_ACTIVE
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
    r"\.(next|prev|private|mapping|mapcount|index|zone|current|offline_passes|critical|nonresident_age\.counter)$"
    r"|vm_node_stat_diff|lru_zone_size|\.kcompactd_until"
)
LAST = re.compile(r"^page |\.free_area\[|\.vm_stat")  # what many steps write, behind what few do
LOCALS = ("alloc_order", "reclaim_order", "highest_zoneidx")  # of kswapd()
POINTERS = re.compile(r"\.kswapds\[\d+\]\.task$")
PAGE = re.compile(r"page (\d+)\.(.+)")
BLOCK_BITS = {"skip": PB_SKIP, "initialised": PB_INITIALISED, "offline": PB_OFFLINE}
FLAGS = {
    ".zone_flags": {"BOOSTED_WATERMARK": ZONE_BOOSTED_WATERMARK, "RECLAIM_ACTIVE": ZONE_RECLAIM_ACTIVE},
    ".process_flags": {name: value for name, value in vars(gfp).items() if name.startswith("PF_")},
}


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
        if found := re.match(r"vm\.kswapds\[(\d+)\]\.(.*)", name):
            mine = own == f"kswapd{found[1]}"
            return f"local {found[2]}" if mine and found[2] in LOCALS else f"kswapd{found[1]}'s {found[2]}"
        if name.startswith((f"{own}.", "m.", "vm.")):
            name = name.partition(".")[2]
        return _items(name, False)

    def waiting(self, text: str, actor: str) -> str:
        """``waits for zone lock, held by cpu1``, with a short name."""
        verb, _, rest = text.partition(" for " if text.startswith("waits") else " on ")
        what, comma, holder = rest.partition(", held")
        if re.fullmatch(r"node\d+ \w+\.lock", what):
            what = what.replace(".lock", ".zone lock") if self.zones > 1 else "zone lock"
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
        ranked = sorted(major or shown, key=lambda w: bool(LAST.search(w.name)))
        lines = list(_merged(self._line(w, actor, ends) for w in ranked))
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
        for ending, bits in FLAGS.items():
            if write.name.endswith(ending):
                return self.short(write.name, actor), _bits(write.old, write.new, bits)
        return self.short(write.name, actor), self.change(write)

    @staticmethod
    def change(write: "Write") -> str:
        """``old -> new``"""
        if LINKS.search(write.name):
            end = "none" if HEADS.search(write.name) else "head"
            old, new = (end if value < 0 else f"page {value}" for value in (write.old, write.new))
            return f"{old} -> {new}"
        if POINTERS.search(write.name):
            return " -> ".join("a task" if value else "NULL" for value in (write.old, write.new))
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


def _bits(old: int, new: int, bits: Mapping[str, int]) -> str:
    """Flags that came and went."""
    return " ".join(("+" if new & bit else "-") + name for name, bit in bits.items() if (old ^ new) & bit)


def _flags(old: int, new: int) -> str:
    return _bits(old, new, PAGE_FLAG_NAMES) or "initialised"


def _block(old: int, new: int) -> str:
    words = _bits(old, new, BLOCK_BITS).split()
    types = [
        MIGRATETYPE_NAMES[value & PB_MIGRATE] for value in (old, new) if value & PB_MIGRATE < len(MIGRATETYPE_NAMES)
    ]
    if len(types) == 2 and types[0] != types[1]:
        words.insert(0, f"{types[0]} -> {types[1]}")
    return " ".join(words) or f"{old:#x} -> {new:#x}"


NUMBERED = (
    re.compile(r"(?P<head>pages?|pageblock) (?P<number>\d+)(?P<tail>.*)"),
    re.compile(r"(?P<head>.*\bfree_area\[)(?P<number>\d+)(?P<tail>\].*)"),
)
OWNED = re.compile(r"\w+'s (.*)")


def _merged(lines: Iterable[tuple[str, str]]) -> Iterable[str]:
    """The same change of neighbouring pages, of neighbouring orders, or of several CPUs' own, is one line."""
    numbers: dict[tuple[str, str, str], list[int]] = {}  # head, tail, change
    owners: dict[tuple[str, str, str], list[str]] = {}
    for name, change in lines:
        if found := next((m for pattern in NUMBERED if (m := pattern.fullmatch(name))), None):
            numbers.setdefault((found["head"], found["tail"], change), []).append(int(found["number"]))
            owners.setdefault((found["head"], found["tail"], change), [])
        else:
            whose = OWNED.fullmatch(name)
            owners.setdefault(("", whose[1] if whose else name, change), []).append(name)
    for (head, tail, change), names in owners.items():
        if not names:
            for first, last in _runs(numbers[head, tail, change]):
                yield _numbered(head, tail, change, first, last)
        else:
            yield f"{names[0]} {change}" if len(names) == 1 else f"{len(names)} others' {tail} {change}"


def _numbered(head: str, tail: str, change: str, first: int, last: int) -> str:
    if head.endswith("["):
        return f"{head}{first if first == last else f'{first}..{last}'}{tail} {change}"
    what = f"{head} {first}" if first == last else f"{head}s {first}-{last}"
    return f"{what}{tail or ':'} {change}"


def _runs(numbers: list[int]) -> Iterable[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
