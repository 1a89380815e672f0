"""A machine on the bench: small, without processes, and every function of the core callable in every mode.

``core.rmqueue_bulk(...)`` is the compiled function (interpreted under EMU_MODE=interpreted). All of them, those of the
other rooms' benches and the emulator's own entries are one program (``tests.program``), so that a run of the tests
compiles once, and a file alone meets the code that it meets in a full run.
"""

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_type_hints

import numpy as np

import emu.programs  # noqa: F401  # the bodies of all seams, whichever test comes first
from emu.cpu import alloc_flags, cpu_hotplug, cpuset, free, mempolicy, page_alloc, pageset, workqueue
from emu.cpu.free import free_unref_page_list
from emu.zone import (
    bad_page,
    buddy,
    deferred,
    fallback,
    highatomic,
    irq,
    kswapd_wake,
    nodemask,
    page,
    pageblock,
    setup,
    vmstat,
    watermark,
    zonelist,
)  # fmt: skip
from emu.zone import list as lists
from emu.zone.board import Board
from emu.zone.boot import Shape, Tuning, ZoneShape
from emu.zone.event import KINDS, Event
from emu.zone.gfp import __GFP_MEMALLOC, __GFP_NOWARN, GFP_KERNEL, PF_KTHREAD
from emu.zone.init import zones_of
from emu.zone.list import INIT_LIST_HEAD, list_add_tail
from emu.zone.mm_types import Vm
from emu.zone.mmzone import (
    MAX_ORDER,
    MIGRATE_TYPES,
    ZONE_DMA32,
    ZONE_NORMAL,
    Cpu,
    Machine,
    Page,
    PageBlock,
    PageExt,
    Pageset,
    Zone,
    page_record,
)  # fmt: skip
from emu.zone.page import pfn_to_page
from emu.zone.snapshot import pageset_of, view, walk
from emu.zone.validate import validate
from shm.atomic import fetch_add
from shm.core import INTERPRETED, Entry, entry
from shm.ring import Ring, ring_drain
from shm.struct import At, Struct, address_of, i64, record_at, struct
from tests import program

PUBLISHED: tuple[tuple[Any, str], ...] = (
    (bad_page, "check_free_page check_new_page"),
    (buddy, "__free_one_page __rmqueue_smallest expand"),
    (deferred, "deferred_grow_zone"),
    (fallback, "__rmqueue boost_watermark find_suitable_fallback move_freepages_block steal_suitable_fallback"),
    (highatomic, "reserve_highatomic_pageblock unreserve_highatomic_pageblock"),
    (irq, "local_irq_restore local_irq_save spin_lock_irqsave spin_unlock_irqrestore"),
    (kswapd_wake, "pgdat_balanced wakeup_kswapd wake_all_kswapds"),
    (lists, "list_add list_add_tail list_del list_empty list_move_tail"),
    (page, "compound_order page_zone prep_compound_page"),
    (pageblock, "change_bits get_pfnblock_migratetype init_pageblock set_pageblock_migratetype"),
    (setup, "calculate_normal_threshold calculate_pressure_threshold set_pgdat_percpu_threshold zone_batchsize"),
    (vmstat, "__mod_node_page_state __mod_zone_page_state fold_node fold_zone zone_page_state_snapshot"),
    (watermark, "__zone_watermark_ok zone_watermark_fast zone_watermark_ok zone_watermark_ok_safe"),
    (zonelist, "next_zones_zonelist node_zonelist"),
    (nodemask, "nodes_remap nodes_fold nodes_onto"),
    (cpuset, "__cpuset_node_allowed cpuset_create cpuset_destroy cpuset_set_mems cpuset_set_flag cpuset_attach"),
    (cpuset, "cpuset_own_mems cpuset_hotplug"),
    (mempolicy, "do_set_mempolicy mempolicy_nodemask_intersects policy_node policy_nodemask set_mempolicy_of"),
    (pageset, "drain_local_pages drain_pages_zone drain_zone_pages refresh_cpu_vm_stats rmqueue_bulk"),
    (free, "__free_pages"),
    (page_alloc, "__alloc_pages_nodemask alloc_flags_nofragment alloc_pages prepare_alloc_pages"),
    (alloc_flags, "__gfp_pfmemalloc_flags gfp_to_alloc_flags"),
    (workqueue, "drain_all_pages flush_work poll queue_work_on run_work"),
    (cpu_hotplug, "cpu_vm_stats_fold drain_pages vm_events_fold_cpu"),
)


@functools.cache
def _published(fn: Callable[..., Any]) -> Entry:
    """An entry that does nothing but call a core function; the same one whoever asks."""
    hints = get_type_hints(fn)
    back = hints.pop("return", None)
    names = ", ".join(hints)
    scope: dict[str, Any] = {**globals(), "_call": fn, **{f"T_{n}": t for n, t in hints.items()}}
    typed = ", ".join(f"{n}: T_{n}" for n in hints)
    name = f"{fn.__core__.symbol}__bench"  # type: ignore[attr-defined]
    exec(f"def {name}({typed}) -> {'int' if back in (int, bool) else 'None'}:\n"
         f"    {'return ' if back in (int, bool) else ''}_call({names})\n", scope)  # fmt: skip
    return entry(scope[name])  # type: ignore[return-value]


core = types.SimpleNamespace(
    **{name: _published(getattr(module, name)) for module, names in PUBLISHED for name in names.split()}
)


# outside the class, which would mangle these names
RESERVES = __GFP_MEMALLOC | __GFP_NOWARN
FREE_PAGES, ALLOC_PAGES_NODEMASK = core.__free_pages, core.__alloc_pages_nodemask


@struct
class Word(Struct):
    """A cell of the script area."""

    value: int = i64()


word_at = At(Word)


@entry
def free_as_list(m: Machine, cpu: Cpu, count: int) -> None:
    """The pages named in the script area, as one ``free_unref_page_list()``."""
    INIT_LIST_HEAD(m, cpu.batch)
    for i in range(count):
        p = page_record(m, pfn_to_page(m, word_at(m, m.script + i * 8).value))
        fetch_add(p, "refcount", -1)
        list_add_tail(m, p.lru, cpu.batch)
    free_unref_page_list(m, cpu)


@entry
def churn(m: Machine, cpu: Cpu, seed: int, rounds: int, slots: int, gfps: int, nr_gfps: int) -> int:
    """Random allocations and frees over a table of pages in the script area; ``gfps``: place of the masks there."""
    x = seed
    failed = 0
    for _ in range(rounds):
        x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
        slot = word_at(m, m.script + (x >> 20) % slots * 8)
        if slot.value != 0:
            core_free(m, cpu, (slot.value >> 8) - 1, slot.value & 255)
            slot.value = 0
            continue
        pick = x >> 5 & 31
        order = 0
        while pick & 1 != 0 and order < 10:
            order += 1 if x >> 40 & 3 != 0 else 2
            pick >>= 1
        gfp = word_at(m, m.script + (gfps + (x >> 12) % nr_gfps) * 8).value
        pfn = core_alloc(m, cpu, gfp, min(order, 10))
        if pfn < 0:
            failed += 1
        else:
            slot.value = (pfn + 1) << 8 | min(order, 10)
    return failed


core_alloc, core_free = page_alloc.alloc_pages, free.__free_pages
ENTRIES = [*vars(core).values(), free_as_list, churn]


def shape(zones: list[tuple[int, int, int, int]], cpu_node: tuple[int, ...] = (0,)) -> Shape:
    """A machine from zones given as (nid, zid, first pfn, pages)."""
    made = tuple(ZoneShape(nid, zid, start, n, n, n) for nid, zid, start, n in zones)
    return Shape(cpu_node, made, max(z.nid for z in made) + 1)


def one_zone(pages: int = 8192, cpus: int = 1, zid: int = ZONE_NORMAL) -> Shape:
    """One node with one zone."""
    return shape([(0, zid, 1024, pages)], (0,) * cpus)


def two_zones(pages: int = 8192, cpus: int = 1) -> Shape:
    """One node with DMA32 below Normal."""
    return shape([(0, ZONE_DMA32, 1024, pages), (0, ZONE_NORMAL, 1024 + pages, pages)], (0,) * cpus)


def two_nodes(pages: int = 8192, cpus: int = 2) -> Shape:
    """Node 0 with DMA32 and Normal, node 1 with Normal; CPUs shared out."""
    zones = [(0, ZONE_DMA32, 1024, pages), (0, ZONE_NORMAL, 1024 + pages, pages)]
    zones.append((1, ZONE_NORMAL, 1024 + 2 * pages, pages))
    return shape(zones, tuple(c * 2 // cpus for c in range(cpus)))


class Bench:
    """A booted machine and short words for what tests do with it."""

    def __init__(self, board: Board) -> None:
        self.board, self.m = board, board.m
        self.base = address_of(self.m)
        self.strict = True  # validated when the test ends

    def cpu(self, index: int = 0) -> Cpu:
        return self.board.cpu(index)

    def task(self, index: int = 0) -> Any:
        return self.board.task(index)

    def zone(self, at: int = -1) -> Zone:
        """A populated zone, by place; the last one if not said."""
        return zones_of(self.m)[at]

    def page(self, pfn: int) -> Page:
        return record_at(Page, self.base + self.m.mem_map + pfn * 32)

    def ext(self, pfn: int) -> PageExt:
        return record_at(PageExt, self.base + self.m.page_ext + pfn * 16)

    def block(self, pfn: int) -> PageBlock:
        return record_at(PageBlock, self.base + self.m.pageblocks + (pfn >> 9))

    def pcp(self, zone: Zone | None = None, cpu: int = 0) -> Pageset:
        return pageset_of(self.m, zone or self.zone(), cpu)

    def pcp_list(self, migratetype: int, zone: Zone | None = None, cpu: int = 0) -> list[int]:
        zone = zone or self.zone()
        return list(walk(self.m, pageset_of(self.m, zone, cpu).lists[migratetype], zone.spanned_pages))

    def free_list(self, order: int, migratetype: int, zone: Zone | None = None) -> list[int]:
        zone = zone or self.zone()
        return list(walk(self.m, zone.free_area[order].free_list[migratetype], zone.spanned_pages))

    def free_blocks(self, zone: Zone | None = None) -> set[tuple[int, int]]:
        """All (pfn, order) on the free lists."""
        return {(p, o) for o in range(MAX_ORDER) for mt in range(MIGRATE_TYPES) for p in self.free_list(o, mt, zone)}

    def nr_free(self, zone: Zone | None = None) -> int:
        """Pages on the free lists."""
        return sum(1 << order for _, order in self.free_blocks(zone))

    def alloc(self, order: int = 0, gfp: int = GFP_KERNEL, cpu: int = 0, nid: int = -1, nodemask: int = 0) -> int:
        """``alloc_pages()``, or ``__alloc_pages_nodemask()`` where a node is given."""
        if nid < 0:
            return int(core.alloc_pages(self.m, self.cpu(cpu), gfp, order))
        return int(ALLOC_PAGES_NODEMASK(self.m, self.cpu(cpu), gfp, order, nid, nodemask))

    def free(self, pfn: int, order: int = 0, cpu: int = 0) -> None:
        FREE_PAGES(self.m, self.cpu(cpu), pfn, order)

    def free_list_of(self, pfns: list[int], cpu: int = 0) -> None:
        """``free_unref_page_list()``"""
        self.words()[: len(pfns)] = pfns
        free_as_list(self.m, self.cpu(cpu), len(pfns))

    def words(self) -> np.ndarray[Any, Any]:
        """The script area as 64-bit cells."""
        return view(self.m, Word, self.m.script, self.m.script_size // 8)["value"]

    def churn(
        self, seed: int, rounds: int, slots: int = 256, gfps: tuple[int, ...] = (GFP_KERNEL,), cpu: int = 0
    ) -> int:
        """Random operations; the pages that stay allocated are :meth:`churned`."""
        self.words()[4096 : 4096 + len(gfps)] = gfps
        return int(churn(self.m, self.cpu(cpu), seed, rounds, slots, 4096, len(gfps)))

    def churned(self) -> list[tuple[int, int]]:
        """(pfn, order) of the pages that :meth:`churn` holds."""
        return [((int(w) >> 8) - 1, int(w) & 255) for w in self.words()[:4096] if w]

    def take_all(self, order: int = 0, gfp: int = GFP_KERNEL, leave: int = 0) -> list[int]:
        """Allocate without regard to watermarks until nothing, or ``leave`` free pages, are left."""
        taken = []
        with self.kernel_thread():
            while self.nr_free_now() > leave:
                pfn = self.alloc(order, gfp | RESERVES)
                if pfn < 0:
                    break
                taken.append(pfn)
        return taken

    @contextmanager
    def kernel_thread(self, cpu: int = 0) -> Iterator[None]:
        """The CPU runs one. When memory is short, a user's task would wait for a kswapd, which nobody plays here."""
        before, self.task(cpu).process_flags = self.task(cpu).process_flags, self.task(cpu).process_flags | PF_KTHREAD
        yield
        self.task(cpu).process_flags = before

    def nr_free_now(self) -> int:
        """Pages free by the lists' own counts."""
        return sum(z.free_area[o].nr_free << o for z in zones_of(self.m) for o in range(MAX_ORDER))

    def events(self, cpu: int = 0) -> np.ndarray[Any, Any]:
        """The records in a CPU's ring, taken out."""
        return ring_drain(record_at(Ring, self.base + self.cpu(cpu).event_ring), Event)

    def kinds(self, cpu: int = 0) -> list[str]:
        """The names of those records."""
        return [KINDS[k] for k in self.events(cpu)["kind"]]

    def drain(self, cpu: int = 0) -> None:
        core.drain_local_pages(self.m, self.cpu(cpu), 0)


@contextmanager
def bench(of: Shape | None = None, *, oom: bool = False, **tuning: Any) -> Iterator[Bench]:
    """Boot a machine; it has to be valid when the test is done with it, unless the test says otherwise.

    Without ``oom`` its OOM killer is disabled (``oom_killer_disable()``): requests fail where it would kill or panic.
    """
    program.load()
    with Board.boot(of or one_zone(), Tuning(**tuning), ring_capacity=1 << 12, script_size=1 << 16) as board:
        made = Bench(board)
        record_at(Vm, made.base + made.m.vm).oom_killer_disabled = int(not oom)
        yield made
        if made.strict:
            assert validate(made.m) == []


def scaled(rounds: int) -> int:
    """As many rounds as take about the same time in this mode."""
    return max(rounds // 100, 30) if INTERPRETED else rounds
