"""gfp_t and alloc_flags (``include/linux/gfp.h``, ``mm/internal.h`` (5.10))."""

from emu.zone.deviations import R35, deviates
from emu.zone.mmzone import ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL, Machine
from shm.core import core

__GFP_DMA = 0x01
__GFP_HIGHMEM = 0x02
__GFP_DMA32 = 0x04
__GFP_MOVABLE = 0x08
__GFP_RECLAIMABLE = 0x10
__GFP_HIGH = 0x20
__GFP_IO = 0x40
__GFP_FS = 0x80
__GFP_ZERO = 0x100
__GFP_ATOMIC = 0x200
__GFP_DIRECT_RECLAIM = 0x400
__GFP_KSWAPD_RECLAIM = 0x800
__GFP_WRITE = 0x1000
__GFP_NOWARN = 0x2000
__GFP_RETRY_MAYFAIL = 0x4000
__GFP_NOFAIL = 0x8000
__GFP_NORETRY = 0x10000
__GFP_MEMALLOC = 0x20000
__GFP_COMP = 0x40000
__GFP_NOMEMALLOC = 0x80000
__GFP_HARDWALL = 0x100000
__GFP_THISNODE = 0x200000
__GFP_ACCOUNT = 0x400000

__GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM
GFP_ATOMIC = __GFP_HIGH | __GFP_ATOMIC | __GFP_KSWAPD_RECLAIM
GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS
GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT
GFP_NOWAIT = __GFP_KSWAPD_RECLAIM
GFP_NOIO = __GFP_RECLAIM
GFP_NOFS = __GFP_RECLAIM | __GFP_IO
GFP_USER = GFP_KERNEL | __GFP_HARDWALL
GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE
GFP_TRANSHUGE_LIGHT = (GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN) & ~__GFP_RECLAIM
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM
GFP_RECLAIM_MASK = (
    __GFP_RECLAIM | __GFP_HIGH | __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_RETRY_MAYFAIL | __GFP_NOFAIL
    | __GFP_NORETRY | __GFP_MEMALLOC | __GFP_NOMEMALLOC | __GFP_ATOMIC
)  # fmt: skip
GFP_ZONEMASK = __GFP_DMA | __GFP_HIGHMEM | __GFP_DMA32 | __GFP_MOVABLE
GFP_MOVABLE_MASK = __GFP_RECLAIMABLE | __GFP_MOVABLE
GFP_BITS_MASK = (1 << 23) - 1

ALLOC_WMARK_MIN = 0
ALLOC_WMARK_LOW = 1
ALLOC_WMARK_HIGH = 2
ALLOC_NO_WATERMARKS = 0x04
ALLOC_WMARK_MASK = ALLOC_NO_WATERMARKS - 1
ALLOC_OOM = 0x08
ALLOC_HARDER = 0x10
ALLOC_HIGH = 0x20
ALLOC_CPUSET = 0x40
ALLOC_CMA = 0x80
ALLOC_NOFRAGMENT = 0x100
ALLOC_KSWAPD = 0x800
assert ALLOC_HIGH == __GFP_HIGH and ALLOC_KSWAPD == __GFP_KSWAPD_RECLAIM

PF_EXITING = 0x4
PF_WQ_WORKER = 0x20
PF_MEMALLOC = 0x800
PF_KSWAPD = 0x20000
PF_MEMALLOC_NOFS = 0x40000
PF_MEMALLOC_NOIO = 0x80000
PF_KTHREAD = 0x200000
PF_SWAPWRITE = 0x800000
PF_MEMALLOC_NOCMA = 0x10000000

PAGE_ALLOC_COSTLY_ORDER = 3


@core(inline=True)
def gfp_zone(gfp: int) -> int:
    """``gfp_zone()``: the highest zone that may be used. x86-64: there is no highmem, and movable pages need both
    ``__GFP_HIGHMEM`` and ``__GFP_MOVABLE`` to go to ZONE_MOVABLE."""
    if gfp & GFP_ZONEMASK == 0:
        return ZONE_NORMAL
    if gfp & __GFP_DMA:
        return ZONE_DMA
    if gfp & __GFP_DMA32:
        return ZONE_DMA32
    if gfp & __GFP_HIGHMEM and gfp & __GFP_MOVABLE:
        return ZONE_MOVABLE
    return ZONE_NORMAL


@core(inline=True)
def gfp_migratetype(group_by_mobility_disabled: int, gfp: int) -> int:
    """``gfp_migratetype()``: the mobility bits are the type."""
    if group_by_mobility_disabled != 0:
        return 0
    return (gfp & GFP_MOVABLE_MASK) >> 3


@core(inline=True)
def gfp_compaction_allowed(m: Machine, gfp_mask: int) -> bool:
    """``gfp_compaction_allowed()``: compaction migrates pages, which may take I/O. Before 803de9000f33 (R35) only
    ``try_to_compact_pages()`` knew, so that who waited for its result waited for ever."""
    return gfp_mask & __GFP_IO != 0 or deviates(m, R35)
