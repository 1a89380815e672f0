"""``/sys/kernel/debug/page_owner``: who has allocated each page that is in use (``mm/page_owner.c`` (5.10)).

Of a machine that was booted with ``page_owner``. Differs from 5.10: nothing remembers stacks. What stands in their
place is the function that all allocations come through, and below it the CPU or the daemon that asked.
"""

from collections.abc import Iterator

import numpy as np

from emu.zone.gfp import gfp_migratetype
from emu.zone.gfp_names import GFP_TABLE, flag_names
from emu.zone.mmzone import MIGRATETYPE_NAMES, PAGEBLOCK_ORDER, PD_OWNER, Machine, PageExt
from emu.zone.pageblock import PB_MIGRATE
from emu.zone.report import comm, page_flags_word
from emu.zone.snapshot import mem_map, pageblocks, view

__all__ = ["has_page_owner", "page_owner_text"]

NR_PAGEFLAGS = 24  # of the low bits of the flags word


def has_page_owner(m: Machine) -> bool:
    """Whether the machine was booted with it."""
    return m.page_debug & PD_OWNER != 0


def page_owner_text(m: Machine) -> Iterator[str]:
    """The file, a block for each allocation, by pfn."""
    owners, pages, blocks = view(m, PageExt, m.page_ext, m.max_pfn), mem_map(m), pageblocks(m)
    order = owners["order"].astype(np.int64)
    of_block = np.arange(m.max_pfn) & ((1 << np.maximum(order, 0)) - 1)
    for pfn in np.flatnonzero((owners["owner_cpu"] > 0) & (order >= 0) & (of_block == 0)).tolist():
        owner, gfp = owners[pfn], int(owners["gfp"][pfn])
        value, names = page_flags_word(int(pages["page_flags"][pfn]))
        type_, block_type = gfp_migratetype(0, gfp), int(blocks[pfn >> PAGEBLOCK_ORDER]) & PB_MIGRATE
        yield (
            f"Page allocated via order {owner['order']}, mask {gfp:#x}({flag_names(gfp, GFP_TABLE)})\n"
            f"PFN {pfn} type {MIGRATETYPE_NAMES[type_]} Block {pfn >> PAGEBLOCK_ORDER} "
            f"type {MIGRATETYPE_NAMES[block_type]} "
            f"Flags {value:#x}({flag_names(value & ((1 << NR_PAGEFLAGS) - 1), names)})\n"
            f" __alloc_pages_nodemask+0x0/0x1000\n {comm(m, int(owner['owner_cpu']) - 1)}+0x0/0x1000\n\n"
        )
