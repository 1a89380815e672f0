"""Reports in the kernel's words: bad pages, warnings, poison, failed allocations (``mm/debug.c`` and others (5.10)).

The core records that something happened; whoever reads the ring makes text of it here.

Differs from 5.10: no stack traces and raw dumps, addresses of struct pages as they are in vmemmap instead of hashed,
no line numbers, and a task is named after its CPU (``emu/0``), a node's kswapd as in the kernel.
"""

from collections.abc import Iterator
from typing import Any

from emu.zone.bad_page import BAD_REASONS
from emu.zone.event import EV_ALLOC_FAILURE, EV_BAD_PAGE, EV_HOTPLUG, EV_POISON, EV_WARN, KINDS, WARNINGS
from emu.zone.gfp import __GFP_DIRECT_RECLAIM, __GFP_NOMEMALLOC, PF_EXITING, PF_MEMALLOC
from emu.zone.gfp_names import flag_names, gfp_names
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES
from emu.zone.mmzone import MIGRATE_CMA, Machine
from emu.zone.mm_types import COMMS
from emu.zone.report_hotplug import hotplug
from emu.zone.sched import TASK_SIZE, Task
from emu.zone.page import (
    NODE_BITS, NODE_SHIFT, PAGE_FLAG_NAMES, PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, PG_buddy, PG_guard, PG_kmemcg,
    PG_offline, PG_table,
)  # fmt: skip
from emu.zone.pageblock import PB_MIGRATE
from emu.zone.snapshot import State, mem_map, pageblocks
from emu.zone.state_out import state_of
from shm.struct import address_of, record_at

__all__ = ["comm", "node_list", "page_flags_word", "render", "show_mem", "task_comm"]

VMEMMAP_START = 0xFFFFEA0000000000
STRUCT_PAGE = 64
POISON_LINE = 16
_KERNEL_BITS = (
    "locked", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "waiters", "error", "slab",
    "owner_priv_1", "arch_1", "reserved", "private", "private_2", "writeback", "head", "mappedtodisk", "reclaim",
    "swapbacked", "unevictable", "mlocked", "uncached", "hwpoison",
)  # fmt: skip
_PRINTED = (
    "locked", "waiters", "error", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "slab",
    "owner_priv_1", "reserved", "private", "writeback", "head", "mappedtodisk", "reclaim", "swapbacked", "unevictable",
    "mlocked", "hwpoison",
)  # fmt: skip
_PAGE_TYPES = ((PG_buddy, 0x80), (PG_offline, 0x100), (PG_kmemcg, 0x200), (PG_table, 0x400), (PG_guard, 0x800))
_TYPE_LETTERS = "UMEHCI"
_NODES_PGSHIFT, _ZONES_PGSHIFT = 54, 52


def render(event: Any, m: Machine) -> str:
    """The text of one record of a ring (:class:`emu.zone.event.Event`, or a numpy row of it)."""
    from emu.zone.report_oom import OOM_RENDER  # that one prints Mem-Info, which is here

    kind = int(event["kind"])
    lines = _RENDER.get(kind) or OOM_RENDER.get(kind)
    if lines is None:
        raise ValueError(f"{KINDS[kind]} is not a report")
    return "".join(f"{line}\n" for line in lines(event, m))


def comm(m: Machine, party: int) -> str:
    """``current->comm`` of the task of a CPU, a daemon, or a further process."""
    if party < m.nr_cpus:
        return f"emu/{party}"
    daemons = [f"{name}{nid}" for name in ("kswapd", "kcompactd") for nid in range(m.nr_nodes)]
    daemons += ["disk", "flusher", "oom_reaper"]
    at = party - m.nr_cpus
    return daemons[at] if at < len(daemons) else f"emu/{party - len(daemons)}"


def task_comm(m: Machine, number: int) -> str:
    """``task->comm`` by the task's place in the table: those of the processes come first."""
    if number < m.nr_parties:
        return comm(m, number)
    return COMMS[record_at(Task, address_of(m) + m.tasks + number * TASK_SIZE).comm]


def node_list(mask: int) -> str:
    """``%*pbl``: ``0-1,3``."""
    runs: list[list[int]] = []
    for nid in range(mask.bit_length()):
        if mask >> nid & 1 == 0:
            continue
        if runs and runs[-1][1] == nid - 1:
            runs[-1][1] = nid
        else:
            runs.append([nid, nid])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _task(event: Any, m: Machine) -> Task:
    return record_at(Task, address_of(m) + m.tasks + int(event["task"]))


def _signed16(value: int) -> int:
    return (value & 0xFFFF ^ 0x8000) - 0x8000


def page_flags_word(flags: int) -> tuple[int, tuple[tuple[str, int], ...]]:
    """The flags word as x86-64 lays it out, and the names of its bits."""
    value = (flags >> NODE_SHIFT & ((1 << NODE_BITS) - 1)) << _NODES_PGSHIFT | (flags & 3) << _ZONES_PGSHIFT
    for name, bit in PAGE_FLAG_NAMES.items():
        if flags & bit and name in _KERNEL_BITS:
            value |= 1 << _KERNEL_BITS.index(name)
    return value, tuple((name, 1 << _KERNEL_BITS.index(name)) for name in _PRINTED)


def _bad_page(event: Any, m: Machine) -> Iterator[str]:
    pfn, fields, flags = int(event["pfn"]), int(event["b"]), int(event["gfp"])
    if not 0 <= pfn < m.max_pfn:  # from a torn list
        yield f"BUG: Bad page state in process {comm(m, int(event['cpu']))}  pfn:{pfn & 0xFFFFFFFFFFFFFFFF:05x}"
        yield "page outside of all memory"
        return
    refcount, mapcount, mapping = _signed16(fields), _signed16(fields >> 16), fields >> 32 & 0xFFFFFFFF
    for flag, bit in _PAGE_TYPES:  # in the kernel a page's type is in its _mapcount
        if flags & flag:
            mapcount &= ~bit
    anon = mapping & PAGE_MAPPING_ANON
    owner = 0 if anon else mapping & ~PAGE_MAPPING_FLAGS
    index = int(mem_map(m)["index"][pfn]) & 0xFFFFFFFFFFFFFFFF
    value, names = page_flags_word(flags)
    low = value & (1 << len(_KERNEL_BITS)) - 1
    cma = " CMA" if pageblocks(m)[pfn >> 9] & PB_MIGRATE == MIGRATE_CMA else ""
    yield f"BUG: Bad page state in process {comm(m, int(event['cpu']))}  pfn:{pfn:05x}"
    yield (
        f"page:{VMEMMAP_START + pfn * STRUCT_PAGE:016x} refcount:{refcount} mapcount:{mapcount + 1} "
        f"mapping:{owner:016x} index:{index:#x} pfn:{pfn:#x}"
    )
    yield f"{'anon ' if anon else ''}flags: {value:#x}({flag_names(low, names)}){cma}"
    yield f"page dumped because: {BAD_REASONS[int(event['a'])]}"


def _warn(event: Any, m: Machine) -> Iterator[str]:
    function, what = WARNINGS[int(event["a"])].split(": ", 1)
    yield "------------[ cut here ]------------"
    yield f"WARNING: CPU: {int(event['cpu'])} PID: {_task(event, m).pid} at {function}"
    yield f"{what}: order:{int(event['order'])}, mode:{_mode(int(event['gfp']))}"


def _mode(gfp: int) -> str:
    return f"{gfp:#x}({gfp_names(gfp) if gfp else ''})"


def _poison(event: Any, m: Machine) -> Iterator[str]:
    # the model has one byte for all of a page, so never a single bit that flipped; the first line stands for the page
    yield "pagealloc: memory corruption"
    content = f"{int(event['a']):02x}"
    yield f"{int(event['pfn']) << 12:016x}: {' '.join([content] * POISON_LINE)}"


def _failure(event: Any, m: Machine) -> Iterator[str]:
    task, gfp, nodemask, cpu = _task(event, m), int(event["gfp"]), int(event["a"]), int(event["cpu"])
    name = task_comm(m, int(event["task"]) // TASK_SIZE)
    yield (
        f"{name}: page allocation failure: order:{int(event['order'])}, mode:{_mode(gfp)}, "
        f"nodemask={node_list(nodemask) if nodemask else '(null)'},cpuset=/,mems_allowed={node_list(task.mems_allowed)}"
    )
    reserves = task.oom_mm != 0 or task.oom_victim != 0 or task.process_flags & (PF_MEMALLOC | PF_EXITING) != 0
    atomic = int(event["irq"]) >> 1 != 0 or gfp & __GFP_DIRECT_RECLAIM == 0
    everywhere = atomic or (reserves and gfp & __GFP_NOMEMALLOC == 0)
    yield from show_mem(state_of(m, light=True), -1 if everywhere else nodemask or task.mems_allowed, cpu)


_RENDER = {
    EV_BAD_PAGE: _bad_page, EV_WARN: _warn, EV_POISON: _poison, EV_ALLOC_FAILURE: _failure, EV_HOTPLUG: hotplug,
}  # fmt: skip


# --- Mem-Info ---------------------------------------------------------------------------------------------------------


def show_mem(state: State, nodes: int = -1, cpu: int = 0) -> Iterator[str]:
    """``lib/show_mem.c:show_mem() (5.10)`` for the nodes of a mask, from a state (light or not)."""
    zones = [z for z in state["zones"] if z["present"] and nodes >> z["nid"] & 1]
    yield "Mem-Info:"
    yield from _machine_lines(state, zones)
    for node in state["nodes"]:
        if nodes >> node["nid"] & 1:
            yield _node_line(dict(zip(state["node_stat_names"], node["vm_stat"], strict=True)), node)
    for zone in zones:
        yield _zone_line(dict(zip(state["zone_stat_names"], zone["vm_stat"], strict=True)), zone, cpu)
        yield "lowmem_reserve[]:" + "".join(f" {pages}" for pages in zone["lowmem_reserve"])
    for zone in zones:
        yield _free_line(zone)
    total = _sums(state["node_stat_names"], state["nodes"])
    yield f"{total['nr_file_pages']} total pagecache pages"
    swap = state.get("sysinfo", {})
    yield f"{swap.get('swapcache', 0)} pages in swap cache"
    yield "Swap cache stats: add {}, delete {}, find {}/{}".format(*swap.get("swap_cache_info", (0, 0, 0, 0)))
    yield f"Free swap  = {state['nr_swap_pages'] * 4}kB"
    yield f"Total swap = {swap.get('totalswap', state['nr_swap_pages']) * 4}kB"
    yield f"{sum(z['present'] for z in state['zones'])} pages RAM"
    yield "0 pages HighMem/MovableOnly"
    yield f"{sum(z['present'] - z['managed'] for z in state['zones'])} pages reserved"
    if state["migrate_types"] > MIGRATE_CMA:
        cma = sum(z["pageblock_counts"][MIGRATE_CMA] for z in state["zones"] if "pageblock_counts" in z)
        yield f"{cma * 512} pages cma reserved"
    yield "0 pages hwpoisoned"


def _sums(names: list[str], rows: list[State]) -> dict[str, int]:
    columns = zip(*(row["vm_stat"] for row in rows), strict=True)
    return {name: max(sum(column), 0) for name, column in zip(names, columns, strict=True)}


def _pcp_pages(zone: State) -> int:
    return sum(int(pcp["count"]) for pcp in zone["pcp"])


def _machine_lines(state: State, zones: list[State]) -> Iterator[str]:
    n, z = _sums(state["node_stat_names"], state["nodes"]), _sums(state["zone_stat_names"], state["zones"])
    isolated = f"isolated_anon:{n['nr_isolated_anon']}"
    yield f"active_anon:{n['nr_active_anon']} inactive_anon:{n['nr_inactive_anon']} {isolated}"
    isolated = f"isolated_file:{n['nr_isolated_file']}"
    yield f" active_file:{n['nr_active_file']} inactive_file:{n['nr_inactive_file']} {isolated}"
    yield f" unevictable:{n['nr_unevictable']} dirty:{n['nr_dirty']} writeback:{n['nr_writeback']}"
    yield f" slab_reclaimable:{n['nr_slab_reclaimable']} slab_unreclaimable:{n['nr_slab_unreclaimable']}"
    tables = f"pagetables:{z['nr_page_table_pages']} bounce:{z['nr_bounce']}"
    yield f" mapped:{n['nr_mapped']} shmem:{n['nr_shmem']} {tables}"
    free_pcp = sum(_pcp_pages(zone) for zone in zones)
    yield f" free:{z['nr_free_pages']} free_pcp:{free_pcp} free_cma:{z['nr_free_cma']}"


def _kb(stats: dict[str, int], name: str, unit: int = 1) -> str:
    return f"{max(stats[name], 0) * unit * 4}kB"


def _node_line(stats: dict[str, int], node: State) -> str:
    names = {
        "active_anon": "nr_active_anon", "inactive_anon": "nr_inactive_anon", "active_file": "nr_active_file",
        "inactive_file": "nr_inactive_file", "unevictable": "nr_unevictable", "isolated(anon)": "nr_isolated_anon",
        "isolated(file)": "nr_isolated_file", "mapped": "nr_mapped", "dirty": "nr_dirty", "writeback": "nr_writeback",
        "shmem": "nr_shmem",
    }  # fmt: skip
    huge = {"shmem_thp": "nr_shmem_hugepages", "shmem_pmdmapped": "nr_shmem_pmdmapped",
            "anon_thp": "nr_anon_transparent_hugepages"}  # fmt: skip
    hopeless = "yes" if node["kswapd_failures"] >= MAX_RECLAIM_RETRIES else "no"
    return " ".join([
        f"Node {node['nid']}", *(f"{key}:{_kb(stats, name)}" for key, name in names.items()),
        *(f"{key}: {_kb(stats, name, 512)}" for key, name in huge.items()),
        f"writeback_tmp:{_kb(stats, 'nr_writeback_temp')}", f"kernel_stack:{stats['nr_kernel_stack']}kB",
        f"all_unreclaimable? {hopeless}",
    ])  # fmt: skip


def _zone_line(stats: dict[str, int], zone: State, cpu: int) -> str:
    marks = [(mark + zone["watermark_boost"]) * 4 for mark in zone["watermark"]]
    names = {
        "active_anon": "nr_zone_active_anon", "inactive_anon": "nr_zone_inactive_anon",
        "active_file": "nr_zone_active_file", "inactive_file": "nr_zone_inactive_file",
        "unevictable": "nr_zone_unevictable", "writepending": "nr_zone_write_pending",
    }  # fmt: skip
    local = next((pcp["count"] for pcp in zone["pcp"] if pcp["cpu"] == cpu), 0)
    return " ".join([
        f"Node {zone['nid']} {zone['name']} free:{_kb(stats, 'nr_free_pages')}",
        f"min:{marks[0]}kB low:{marks[1]}kB high:{marks[2]}kB",
        f"reserved_highatomic:{zone['nr_reserved_highatomic'] * 4}KB",
        *(f"{key}:{_kb(stats, name)}" for key, name in names.items()),
        f"present:{zone['present'] * 4}kB managed:{zone['managed'] * 4}kB mlocked:{_kb(stats, 'nr_mlock')}",
        f"pagetables:{_kb(stats, 'nr_page_table_pages')} bounce:{_kb(stats, 'nr_bounce')}",
        f"free_pcp:{_pcp_pages(zone) * 4}kB local_pcp:{local * 4}kB free_cma:{_kb(stats, 'nr_free_cma')}",
    ])  # fmt: skip


def _free_line(zone: State) -> str:
    text, total = f"Node {zone['nid']} {zone['name']}: ", 0
    for order, area in enumerate(zone["free_area"]):
        counts = area.get("counts") or [len(pfns) for pfns in area["lists"]]
        text += f"{area['nr_free']}*{4 << order}kB "
        if area["nr_free"]:
            text += f"({''.join(c for c, n in zip(_TYPE_LETTERS, counts, strict=False) if n)}) "
        total += area["nr_free"] << order
    return f"{text}= {total * 4}kB"
