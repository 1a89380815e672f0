"""What an emulated machine reports is explained by the very check that refused there."""

import random
from typing import Any

import pytest

from emu.explain import explain, read_dumps
from emu.explain.decide import Explanation
from emu.explain.text import sentence
from emu.zone.event import EV_ALLOC_FAILURE
from emu.zone.gfp import (
    __GFP_ATOMIC,
    __GFP_DMA32,
    __GFP_HIGH,
    __GFP_MOVABLE,
    __GFP_NOMEMALLOC,
    __GFP_NORETRY,
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOWAIT,
    GFP_USER,
    gfp_zone,
)  # fmt: skip
from emu.zone.init import zones_of
from emu.zone.mmzone import MAX_ORDER, WMARK_MIN, Zone
from emu.zone.report import render
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from shm.core import INTERPRETED
from tests.bench import Bench, bench, core, one_zone, scaled, two_nodes, two_zones

MASKS = (
    GFP_KERNEL, GFP_ATOMIC, GFP_NOWAIT, GFP_USER, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | __GFP_HIGH,
    GFP_KERNEL | __GFP_DMA32, GFP_ATOMIC | __GFP_NOMEMALLOC, GFP_ATOMIC | __GFP_MOVABLE, GFP_KERNEL | __GFP_NORETRY,
)  # fmt: skip


ROUNDS = 5 if INTERPRETED else 25


def report(b: Bench, gfp: int, order: int, nodemask: int = 0) -> str:
    """The text of ``warn_alloc()`` for a request of CPU 0's task."""
    event: dict[str, Any] = {
        "kind": EV_ALLOC_FAILURE, "cpu": 0, "order": order, "gfp": gfp, "a": nodemask, "irq": 0,
        "task": b.cpu().current - b.m.tasks,
    }  # fmt: skip
    return f"CPU: 0 PID: 1 Comm: emu/0 Not tainted 5.10.262 #1\n{render(event, b.m)}"


def explained(b: Bench, gfp: int, order: int, nodemask: int = 0) -> Explanation:
    dumps, problems = read_dumps(report(b, gfp, order, nodemask).splitlines())
    assert problems == []
    (dump,) = dumps
    return explain(dump)


def refusal(b: Bench, zone: Zone, gfp: int, order: int) -> str:
    """Asked on the machine itself, in the words of ``emu explain``; the block is what is left when the sum is right."""
    flags, highest = int(core.gfp_to_alloc_flags(b.m, b.cpu(), gfp)), gfp_zone(gfp)
    if zone.zid > highest:
        return "zone"
    if flags & ALLOC_CPUSET and not core.__cpuset_node_allowed(b.m, b.cpu(), zone.node, gfp):
        return "cpuset"
    mark = zone.watermark[WMARK_MIN] + zone.watermark_boost
    if gfp & __GFP_ATOMIC and order == 0:
        mark = zone.watermark[WMARK_MIN]
    free = zone.vm_stat[NR_FREE_PAGES].counter
    ask = core.__zone_watermark_ok
    if not ask(b.m, zone, 0, mark, highest, flags, free - ((1 << order) - 1)):
        return "watermark"
    if not ask(b.m, zone, order, mark, highest, flags, free):
        return "order"
    usable = {0, 1, 2} | ({4} if flags & ALLOC_CMA else set()) | ({3} if flags & ALLOC_HARDER and order else set())
    lists = {mt for o in range(order, MAX_ORDER) for mt in range(6) if b.free_list(o, mt, zone)}
    return "passes" if lists & usable else "lists"


def squeeze(b: Bench, rng: random.Random) -> None:
    """Bring a machine near its watermarks: fragmented or not, with reserves and boost or not."""
    b.churn(rng.randrange(1 << 30), scaled(2000), gfps=(GFP_KERNEL, GFP_HIGHUSER_MOVABLE))
    marks = sum(z.watermark[WMARK_MIN] for z in zones_of(b.m))
    leave = rng.randrange(0, marks + marks // 2)
    held = b.take_all(leave=leave)
    for pfn in rng.sample(held, min(len(held), rng.randrange(0, marks + 1))):
        b.free(pfn)
    b.drain()
    for zone in zones_of(b.m):
        zone.watermark_boost = rng.choice((0, 0, 3 * zone.watermark[WMARK_MIN] + 200))
        zone.nr_reserved_highatomic = rng.choice((0, 0, 64, 512))
    b.strict = False  # the reserve is a number here, without pageblocks


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_check_that_refused_is_named(seed: int) -> None:
    rng = random.Random(seed)
    shape, cma = rng.choice((one_zone, two_zones, two_nodes))(4096), rng.choice((0, 0, 1024))
    refused = 0
    with bench(shape, cma=cma) as b:
        squeeze(b, rng)
        for _ in range(ROUNDS):
            gfp, order = rng.choice(MASKS), rng.choice((0, 0, 1, 2, 3, 5, 9))
            found = explained(b, gfp, order)
            assert found.version == (5, 10) and found.version_known
            for answer in found.answers:
                zone = b.m.nodes[answer.zone.nid].node_zones[found.columns.index(answer.zone.name)]
                wanted = refusal(b, zone, gfp, order)
                if answer.boost_kb * 1024 >> 12 != zone.watermark_boost and gfp & __GFP_ATOMIC and order == 0:
                    # 5.10 doesn't print the boost, and what can be seen of it is a lower bound
                    assert wanted != "watermark" or answer.said == "watermark"
                    continue
                assert answer.said == wanted, (gfp, order, answer, wanted)
                refused += wanted in ("watermark", "order", "lists")
    assert refused > 0


@pytest.mark.parametrize(("gfp", "order", "said"), [
    (GFP_KERNEL, 0, "watermark"), (GFP_ATOMIC, 0, "watermark"), (GFP_KERNEL, 3, "watermark"),
])  # fmt: skip
def test_request_that_fails_is_explained(gfp: int, order: int, said: str) -> None:
    with bench(one_zone(4096)) as b:
        b.take_all()
        assert b.alloc(order, gfp) == -1
        found = explained(b, gfp, order)
        assert [answer.said for answer in found.answers] == [said]
        assert found.verdict == "watermark"


def test_fragmented_machine_says_so() -> None:
    with bench(one_zone(8192)) as b:
        pages = sorted(b.take_all())
        for pfn in pages[::2]:
            b.free(pfn)
        b.drain()
        assert b.alloc(1, GFP_KERNEL) == -1
        found = explained(b, GFP_KERNEL, 1)
        assert found.verdict == "order"
        assert found.answers[0].largest == 0
        assert found.answers[0].model


def test_blocks_that_are_reserved_for_others_do_not_help() -> None:
    with bench(one_zone(8192), cma=1024) as b:
        b.take_all()  # not from CMA: these requests aren't movable
        zone = b.zone()
        assert zone.vm_stat[NR_FREE_CMA_PAGES].counter == 1024
        found = explained(b, GFP_KERNEL, 0)
        assert (found.answers[0].said, found.answers[0].causes) == ("watermark", ("cma",))
        movable = explained(b, GFP_HIGHUSER_MOVABLE, 3)
        assert movable.answers[0].said == "passes"


def test_zone_with_only_high_atomic_pages_serves_no_single_ones() -> None:
    with bench(one_zone(8192)) as b:
        block = b.alloc(9, GFP_KERNEL)
        held = [pfn for pfn in b.take_all() if pfn not in range(block, block + 512)]
        core.reserve_highatomic_pageblock(b.m, b.cpu(), block, b.zone())
        b.free(block, 9)
        assert len(held) == 8192 - 512 and b.nr_free_now() == 512
        assert refusal(b, b.zone(), GFP_ATOMIC, 0) == "lists"
        found = explained(b, GFP_ATOMIC, 0)
        assert found.verdict == "lists"
        assert "HighAtomic" in sentence(found, found.answers[0])
        assert explained(b, GFP_ATOMIC, 1).verdict == "passes"


def test_other_nodes_are_left_out_of_the_report() -> None:
    with bench(two_nodes(4096)) as b:
        b.m.cpusets_enabled = 1
        b.task().mems_allowed = 1
        b.take_all()
        found = explained(b, GFP_USER, 0)
        assert {answer.zone.nid for answer in found.answers} == {0}
        assert found.dump.mems_allowed == "0"
        everywhere = explained(b, GFP_ATOMIC, 0)
        assert {answer.zone.nid for answer in everywhere.answers} == {0, 1}
        assert all(answer.said != "cpuset" for answer in everywhere.answers)
