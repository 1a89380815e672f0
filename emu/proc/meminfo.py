"""/proc/meminfo: memory use of the whole machine, in KiB.

The page allocator's state does not hold all of it. Taken from the optional dict state["sysinfo"], in pages, 0 where
missing: bufferram (Buffers), swapcache (SwapCached), totalswap (SwapTotal; not below nr_swap_pages), committed
(Committed_AS), vmalloc (VmallocUsed), percpu (Percpu), totalcma (CmaTotal).
Always 0: HugePages_Total, HugePages_Free, HugePages_Rsvd, HugePages_Surp, Hugetlb, DirectMap4k, DirectMap2M, and
NFS_Unstable and VmallocChunk, which are 0 in 5.10 too.
While bufferram is unknown, Cached includes the buffers; Buffers + Cached is right either way.
"""

from emu.proc.state import PAGE_SHIFT, State, global_node_page_state, global_zone_page_state, wmark_pages

__all__ = ("render", "si_mem_available", "values")

_HPAGE_PMD_NR = 512
_OVERCOMMIT_RATIO = 50
_VMALLOC_TOTAL_KB = 34359738367
"""arch/x86/include/asm/pgtable_64_types.h (5.10): 32 TiB - 1 byte with four page table levels."""
_NR_MIGRATETYPES_WITH_CMA = 6


def render(state: State) -> str:
    """Write the file as fs/proc/meminfo.c:meminfo_proc_show() (5.10) does."""
    hugetlb = "".join(f"{'HugePages_' + name + ':':<19}{0:5d}\n" for name in ("Total", "Free", "Rsvd", "Surp"))
    tail = {"Hugepagesize": _HPAGE_PMD_NR << (PAGE_SHIFT - 10), "Hugetlb": 0, "DirectMap4k": 0, "DirectMap2M": 0}
    return _kb(values(state)) + hugetlb + _kb(tail)


def _kb(lines: dict[str, int]) -> str:
    return "".join(f"{name + ':':<16}{value:8d} kB\n" for name, value in lines.items())


def values(state: State) -> dict[str, int]:
    """Return the lines before HugePages_Total by name, in KiB, in order."""
    zone, node = global_zone_page_state(state), global_node_page_state(state)
    other = state.get("sysinfo", {})
    totalram = sum(int(z["managed"]) for z in state["zones"])
    free_swap = state["nr_swap_pages"]
    total_swap = max(other.get("totalswap", 0), free_swap)
    slab_reclaimable, slab_unreclaimable = node["nr_slab_reclaimable"], node["nr_slab_unreclaimable"]
    pages = {
        "MemTotal": totalram,
        "MemFree": zone["nr_free_pages"],
        "MemAvailable": si_mem_available(state),
        "Buffers": other.get("bufferram", 0),
        "Cached": max(node["nr_file_pages"] - other.get("swapcache", 0) - other.get("bufferram", 0), 0),
        "SwapCached": other.get("swapcache", 0),
        "Active": node["nr_active_anon"] + node["nr_active_file"],
        "Inactive": node["nr_inactive_anon"] + node["nr_inactive_file"],
        "Active(anon)": node["nr_active_anon"],
        "Inactive(anon)": node["nr_inactive_anon"],
        "Active(file)": node["nr_active_file"],
        "Inactive(file)": node["nr_inactive_file"],
        "Unevictable": node["nr_unevictable"],
        "Mlocked": zone["nr_mlock"],
        "SwapTotal": total_swap,
        "SwapFree": free_swap,
        "Dirty": node["nr_dirty"],
        "Writeback": node["nr_writeback"],
        "AnonPages": node["nr_anon_pages"],
        "Mapped": node["nr_mapped"],
        "Shmem": node["nr_shmem"],
        "KReclaimable": slab_reclaimable + node["nr_kernel_misc_reclaimable"],
        "Slab": slab_reclaimable + slab_unreclaimable,
        "SReclaimable": slab_reclaimable,
        "SUnreclaim": slab_unreclaimable,
    }
    more_pages = {
        "PageTables": zone["nr_page_table_pages"],
        "NFS_Unstable": 0,
        "Bounce": zone["nr_bounce"],
        "WritebackTmp": node["nr_writeback_temp"],
        "CommitLimit": totalram * _OVERCOMMIT_RATIO // 100 + total_swap,
        "Committed_AS": other.get("committed", 0),
    }
    last_pages = {
        "VmallocUsed": other.get("vmalloc", 0),
        "VmallocChunk": 0,
        "Percpu": other.get("percpu", 0),
        "AnonHugePages": node["nr_anon_transparent_hugepages"] * _HPAGE_PMD_NR,
        "ShmemHugePages": node["nr_shmem_hugepages"] * _HPAGE_PMD_NR,
        "ShmemPmdMapped": node["nr_shmem_pmdmapped"] * _HPAGE_PMD_NR,
        "FileHugePages": node["nr_file_hugepages"] * _HPAGE_PMD_NR,
        "FilePmdMapped": node["nr_file_pmdmapped"] * _HPAGE_PMD_NR,
    }
    if state["migrate_types"] == _NR_MIGRATETYPES_WITH_CMA:
        last_pages |= {"CmaTotal": other.get("totalcma", 0), "CmaFree": zone["nr_free_cma"]}
    return {
        **_pages_to_kb(pages),
        "KernelStack": node["nr_kernel_stack"],
        **_pages_to_kb(more_pages),
        "VmallocTotal": _VMALLOC_TOTAL_KB,
        **_pages_to_kb(last_pages),
    }


def si_mem_available(state: State) -> int:
    """Estimate, in pages, what programs could get without swapping: mm/page_alloc.c:si_mem_available() (5.10)."""
    zone, node = global_zone_page_state(state), global_node_page_state(state)
    wmark_low = sum(wmark_pages(z, 1) for z in state["zones"])
    pagecache = node["nr_active_file"] + node["nr_inactive_file"]
    reclaimable = node["nr_slab_reclaimable"] + node["nr_kernel_misc_reclaimable"]
    available = zone["nr_free_pages"] - state["totalreserve_pages"]
    available += pagecache - min(pagecache // 2, wmark_low)
    available += reclaimable - min(reclaimable // 2, wmark_low)
    return max(int(available), 0)


def _pages_to_kb(pages: dict[str, int]) -> dict[str, int]:
    return {name: int(value) << (PAGE_SHIFT - 10) for name, value in pages.items()}
