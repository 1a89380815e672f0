"""Any sequence of operations on two CPUs and two nodes, against a set of free pages, with every invariant checked."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emu.zone.gfp import (
    __GFP_COMP,
    __GFP_DMA32,
    __GFP_NOWARN,
    __GFP_RECLAIMABLE,
    __GFP_THISNODE,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOWAIT,
)  # fmt: skip
from emu.zone.init import zones_of
from emu.zone.setup import setup_per_zone_wmarks
from emu.zone.validate import validate
from emu.zone.vmstat_items import PGALLOC, PGFREE
from shm.core import INTERPRETED
from tests import naive
from tests.bench import Bench, bench, core, two_nodes

GFPS = tuple(
    base | extra | __GFP_NOWARN
    for base in (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC, GFP_NOWAIT, GFP_KERNEL | __GFP_RECLAIMABLE)
    for extra in (0, __GFP_COMP, __GFP_THISNODE, __GFP_DMA32)
)
CPUS = st.integers(0, 1)


class Allocator(RuleBasedStateMachine):
    """The model: which blocks are held. Everything else is free, and free blocks are what a set of pages makes."""

    def __init__(self) -> None:
        super().__init__()
        self.open = bench(two_nodes(4096), percpu_pagelist_fraction=256)
        self.b: Bench = self.open.__enter__()
        self.held: list[tuple[int, int]] = []
        self.allocated = self.freed = 0

    @initialize(tuning=st.sampled_from([128, 700, 2000]))
    def start(self, tuning: int) -> None:
        self.b.m.min_free_kbytes = tuning
        setup_per_zone_wmarks(self.b.m, self.b.cpu())

    @rule(cpu=CPUS, order=st.integers(0, 10), gfp=st.sampled_from(GFPS), nid=st.sampled_from([-1, 0, 1]))
    def alloc(self, cpu: int, order: int, gfp: int, nid: int) -> None:
        pfn = self.b.alloc(order, gfp, cpu, nid)
        if pfn < 0:
            return
        assert pfn % (1 << order) == 0
        assert not naive.pages_of([(pfn, order)]) & naive.pages_of(self.held)
        self.held.append((pfn, order))
        self.allocated += 1 << order

    @rule(cpu=CPUS, gfp=st.sampled_from(GFPS), n=st.integers(1, 40))
    def alloc_many(self, cpu: int, gfp: int, n: int) -> None:
        for _ in range(n):
            self.alloc(cpu, 0, gfp, -1)

    @precondition(lambda self: self.held)
    @rule(cpu=CPUS, data=st.data())
    def free(self, cpu: int, data: Any) -> None:
        pfn, order = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.b.free(pfn, order, cpu)
        self.freed += 1 << order

    @precondition(lambda self: self.held)
    @rule(cpu=CPUS)
    def free_all_single_pages(self, cpu: int) -> None:
        single = [pfn for pfn, order in self.held if order == 0]
        self.held = [(pfn, order) for pfn, order in self.held if order]
        self.b.free_list_of(single, cpu)
        self.freed += len(single)

    @rule(cpu=CPUS)
    def drain(self, cpu: int) -> None:
        self.b.drain(cpu)

    @rule(cpu=CPUS, pagesets=st.booleans())
    def fold(self, cpu: int, pagesets: bool) -> None:
        core.refresh_cpu_vm_stats(self.b.m, self.b.cpu(cpu), int(pagesets))

    @rule(min_free=st.integers(128, 4000), scale=st.integers(1, 1000), factor=st.sampled_from([0, 5000, 15000]))
    def sysctl(self, min_free: int, scale: int, factor: int) -> None:
        self.b.m.min_free_kbytes, self.b.m.watermark_scale_factor = min_free, scale
        self.b.m.watermark_boost_factor = factor
        setup_per_zone_wmarks(self.b.m, self.b.cpu())
        managed = [zone.managed_pages for zone in zones_of(self.b.m)]
        assert [tuple(z.watermark) for z in zones_of(self.b.m)] == naive.watermarks(managed, min_free, scale)

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert validate(self.b.m, from_boot=True) == []

    @invariant()
    def free_lists_are_those_of_the_model(self) -> None:
        for zone in zones_of(self.b.m):
            span = set(range(zone.zone_start_pfn, zone.zone_start_pfn + zone.spanned_pages))
            away = naive.pages_of(self.held)
            away |= {p for cpu in (0, 1) for mt in range(3) for p in self.b.pcp_list(mt, zone, cpu)}
            assert self.b.free_blocks(zone) == naive.blocks_of(span - away)

    @invariant()
    def events_are_counted(self) -> None:
        events = [self.b.cpu(i).vm_events for i in (0, 1)]
        assert sum(e[PGALLOC + zid] for e in events for zid in range(4)) == self.allocated
        assert sum(e[PGFREE] for e in events) == self.freed

    def teardown(self) -> None:
        self.open.__exit__(None, None, None)


TestAllocator = pytest.mark.slow(Allocator.TestCase)
TestAllocator.settings = settings(max_examples=3 if INTERPRETED else 8, stateful_step_count=30, deadline=None)
