"""Through the zonelist as the kernel went: what did each zone say, and what does that add up to?"""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from emu.explain.dump import Dump, DumpZone
from emu.explain.gfp import flags_of
from emu.explain.model import Model, fits, modelled
from emu.explain.rules import (
    PCPTYPES,
    Access,
    Sum,
    Version,
    access_of,
    finds_block,
    infer_boost,
    version_of,
    watermark_sum,
)  # fmt: skip
from emu.explain.zones import gfp_zone, node_set, zone_columns

__all__ = ["Answer", "Explanation", "explain"]

NOT_ASKED: Final = ("zone", "nodemask", "cpuset", "empty")


@dataclass
class Answer:
    """What one zone said.

    ``watermark``: too few pages; ``reserve``: too few if the high-atomic reserve, which isn't printed, is as large as
    it may be; ``order``: no block; ``lists``: only blocks that others may have; ``high``: too few for the last attempt
    of the OOM killer; ``passes``; or why it was ``NOT_ASKED``.
    """

    zone: DumpZone
    said: str
    test: Sum | None = None  # at the watermark that decided
    causes: tuple[str, ...] = ()  # each alone would have turned the watermark's refusal round
    boost_kb: int = 0
    boost_printed: bool = False
    largest: int = -1  # order that would have passed, -1: none
    model: bool = False  # the emulator's own check agreed
    hidden_reserve_kb: int = 0  # at most


@dataclass
class Explanation:
    """One report, explained."""

    dump: Dump
    version: Version
    version_known: bool
    flags: frozenset[str]
    unknown: tuple[str, ...]
    columns: tuple[str, ...]
    highest: int
    access: Access
    answers: list[Answer] = field(default_factory=list)
    hidden_nodes: set[int] = field(default_factory=set)

    @property
    def rules(self) -> str:
        """The kernel whose arithmetic is used."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def asked(self) -> list[Answer]:
        """The zones that the request might have used."""
        return [answer for answer in self.answers if answer.said not in NOT_ASKED]

    @property
    def verdict(self) -> str:
        """``nowhere`` to go, ``passes`` now, ``high``, ``order`` (in pieces), ``lists``, or ``watermark``."""
        said = [answer.said for answer in self.asked]
        if not said:
            return "nowhere"
        return next((kind for kind in ("passes", "high", "reserve", "order", "lists") if kind in said), "watermark")


def explain(dump: Dump) -> Explanation:
    """Ask every zone of a report again."""
    version, known = version_of(dump)
    flags, unknown = flags_of(dump, version)
    columns = zone_columns(dump)
    access = access_of(flags, dump.order, version, comm=dump.comm, irq=dump.irq)
    found = Explanation(
        dump, version, known, flags, unknown, columns, gfp_zone(flags, columns), access,
        hidden_nodes=dump.nodes - {zone.nid for zone in dump.zones},
    )  # fmt: skip
    with ExitStack() as stack:
        for nid in sorted({zone.nid for zone in dump.zones}):
            model = stack.enter_context(modelled(dump, nid, version, columns)) if fits(dump, version, columns) else None
            zones = [zone for zone in dump.zones if zone.nid == nid]
            for zone in sorted(zones, key=lambda z: -columns.index(z.name)):
                found.answers.append(_answer(found, zone, model))
    return found


def _answer(found: Explanation, zone: DumpZone, model: Model | None) -> Answer:
    said = _not_asked(found, zone)
    if said:
        return Answer(zone, said)
    boost, printed = infer_boost(found.dump, zone, found.version)
    answer = Answer(zone, "passes", boost_kb=boost, boost_printed=printed)
    answer.largest = _largest(found, zone)
    mark = _mark_kb(found, answer)
    answer.test = _test(found, zone, mark, found.dump.order)
    if found.access.watermarks:
        _watermark(found, answer, mark, model)
    if answer.said == "passes" and not _buddy_has(found, zone):
        answer.said = "lists"
    if answer.said == "passes" and found.access.watermarks:
        _hidden_reserve(found, answer)
    if answer.said == "passes" and found.dump.kind == "oom":
        _last_attempt(found, answer)
    return answer


def _not_asked(found: Explanation, zone: DumpZone) -> str:
    dump, access = found.dump, found.access
    if found.columns.index(zone.name) > found.highest:
        return "zone"
    if zone.kb.get("managed", 1) == 0:
        return "empty"  # zonelists have zones with memory only
    if dump.nodemask and zone.nid not in node_set(dump.nodemask) and access.cpuset and access.watermarks:
        return "nodemask"
    hardwall = access.cpuset and "HARDWALL" in found.flags
    if hardwall and dump.mems_allowed and zone.nid not in node_set(dump.mems_allowed):
        return "cpuset"
    return ""


def _mark_kb(found: Explanation, answer: Answer) -> int:
    """The watermark of the last attempts: min; from 5.9 on without boost for atomic single pages."""
    atomic = found.access.half if found.version >= (6, 3) else "ATOMIC" in found.flags
    if found.version >= (5, 9) and atomic and found.dump.order == 0:
        return answer.zone.kb["min"] - answer.boost_kb
    return answer.zone.kb["min"]


def _test(found: Explanation, zone: DumpZone, mark_kb: int, order: int) -> Sum:
    return watermark_sum(found.dump, zone, mark_kb, found.highest, found.access, found.version, order)


def _watermark(found: Explanation, answer: Answer, mark_kb: int, model: Model | None) -> None:
    zone, order, test = answer.zone, found.dump.order, answer.test
    assert test is not None
    block = order == 0 or finds_block(zone, order, found.access, found.version, test)
    if not test.passes:
        answer.said = "watermark"
        answer.causes = _causes(test, _test(found, zone, zone.kb["min"] - answer.boost_kb, order)) if block else ()
    elif not block:
        answer.said = "order"
    if model is not None:
        agreed = model.watermark_ok(zone, order, mark_kb, found.highest, found.access) == (answer.said == "passes")
        assert agreed, f"line {zone.line}: zone {zone.name}: 5.10's own check sees this otherwise"
        answer.model = True


def _causes(test: Sum, unboosted: Sum) -> tuple[str, ...]:
    without = {
        "highatomic": replace(test, highatomic=0), "cma": replace(test, cma=0), "boost": unboosted,
        "reserve": replace(test, reserve=0), "order": replace(test, order=0),
    }  # fmt: skip
    return tuple(name for name, other in without.items() if other.passes)


def _buddy_has(found: Explanation, zone: DumpZone) -> bool:
    """``__rmqueue()``: from the HighAtomic lists only with an order, from CMA only if movable, never isolated ones."""
    order, access = found.dump.order, found.access
    usable = set(PCPTYPES) | ({"C"} if access.cma else set())
    if access.highatomic and order > 0:
        usable.add("H")
    areas = zip(zone.counts[order:], zone.letters[order:], strict=True)
    return any(count and (not letters or set(letters) & usable) for count, letters in areas)


def _last_attempt(found: Explanation, answer: Answer) -> None:
    """``__alloc_pages_may_oom()`` tries once more, at the high watermark and without any privilege."""
    plain = Access(cma=found.access.cma)
    high = watermark_sum(
        found.dump, answer.zone, answer.zone.kb["high"], found.highest, plain, found.version, found.dump.order
    )
    if not high.passes:
        answer.said, answer.test = "high", high


def _hidden_reserve(found: Explanation, answer: Answer) -> None:
    """4.4 to 5.4 don't print the high-atomic reserve: up to 1 % of the zone and one pageblock."""
    zone, test, page = answer.zone, answer.test, found.dump.page_kb
    assert test is not None
    if "reserved_highatomic" in zone.kb or not test.highatomic:
        return
    answer.hidden_reserve_kb = zone.kb.get("managed", 0) // 100 + 512 * page
    if not replace(test, highatomic=answer.hidden_reserve_kb // page).passes:
        answer.said = "reserve"


def _largest(found: Explanation, zone: DumpZone) -> int:
    """The largest order that would have been granted here to the same caller."""
    for order in reversed(range(len(zone.counts))):
        access = access_of(found.flags, order, found.version, comm=found.dump.comm, irq=found.dump.irq)
        test = watermark_sum(found.dump, zone, zone.kb["min"], found.highest, access, found.version, order)
        if (test.passes or not access.watermarks) and finds_block(zone, order, access, found.version, test):
            return order
    return -1
