"""The arithmetic of ``__zone_watermark_ok()`` and ``gfp_to_alloc_flags()`` in the kernels from 4.0 on.

========  =============================================================================================================
from      what is new
========  =============================================================================================================
4.0       (the oldest form) free blocks below the order are taken off, order by order, against a mark that halves
4.4       the mark is for order 0 alone, then one block is looked for (``mm, page_alloc: only enforce watermarks for
          order-0 allocations``); MIGRATE_HIGHATOMIC, whose reserve counts only for requests with ALLOC_HARDER
4.7       for order 0 a first, quick test, which leaves the high-atomic reserve out
4.15      ALLOC_HARDER finds only Unmovable, Movable, Reclaimable and HighAtomic blocks, no longer any block
          (``mm, page_alloc: fix potential false positive in __zone_watermark_ok``)
5.0       the watermark boost is part of min, low and high (``mm: reclaim small amounts of memory when an external
          fragmentation event occurs``)
5.9       the quick test knows the reserve (``page_alloc: consider highatomic reserve in watermark fast``);
          an order-0 GFP_ATOMIC request that is refused at min is looked at again without the boost
6.3       __GFP_ATOMIC is gone: a request without direct reclaim is ALLOC_NON_BLOCK, with order > 0 ALLOC_HIGHATOMIC;
          only __GFP_HIGH (ALLOC_MIN_RESERVE) lowers the mark, by 1/2, and by 1/4 of the rest if it can't block
6.13      ``free_highatomic`` is printed: what is free of the reserve is taken off instead of the whole reserve
6.18      ALLOC_HIGHATOMIC only with __GFP_HIGH (``mm/page_alloc: only set ALLOC_HIGHATOMIC for __GPF_HIGH
          allocations``)
========  =============================================================================================================

5.10 is the kernel of the emulator, whose own check is asked for everything from 4.15 to 6.2 (:mod:`emu.explain.model`).
Backports of distributions and stable kernels are not followed.
"""

import re
from dataclasses import dataclass

from emu.explain.dump import Dump, DumpZone

__all__ = [
    "Access",
    "Sum",
    "access_of",
    "finds_block",
    "infer_boost",
    "reserve_kb",
    "unusable_kb",
    "version_of",
    "watermark_sum",
]

PCPTYPES = "UME"
PAGEBLOCK = 512
Version = tuple[int, int]


@dataclass(frozen=True)
class Access:
    """What a request may do that others may not: alloc_flags without the watermark's number."""

    half: bool = False  # ALLOC_HIGH, ALLOC_MIN_RESERVE: min - min / 2
    quarter: bool = False  # ALLOC_HARDER, ALLOC_NON_BLOCK: of the rest - 1 / 4
    reserve: bool = False  # the high-atomic reserve counts as free
    highatomic: bool = False  # blocks on the HighAtomic lists
    cma: bool = False  # ALLOC_CMA
    cpuset: bool = True  # ALLOC_CPUSET
    watermarks: bool = True  # not ALLOC_NO_WATERMARKS


@dataclass(frozen=True)
class Sum:
    """One watermark test, in pages: ``free - order - highatomic - cma > mark + reserve``."""

    free: int
    order: int
    highatomic: int
    cma: int
    full_mark: int
    mark: int
    reserve: int

    @property
    def usable(self) -> int:
        """What counts as free."""
        return self.free - self.order - self.highatomic - self.cma

    @property
    def needed(self) -> int:
        """What has to be exceeded."""
        return self.mark + self.reserve

    @property
    def passes(self) -> bool:
        """Whether it is."""
        return self.usable > self.needed


def version_of(dump: Dump) -> tuple[Version, bool]:
    """The kernel's version; if no line says it, the latest whose format this is (and False)."""
    found = re.match(r"(\d+)\.(\d+)", dump.kernel)
    if found:
        return (int(found[1]), int(found[2])), True
    keys: set[str] = set().union(*(zone.kb for zone in dump.zones)) if dump.zones else set()
    for key, version in (
        ("free_highatomic", (6, 13)), ("boost", (6, 2)), ("reserved_highatomic", (5, 10)), ("pages_scanned", (4, 7)),
    ):  # fmt: skip
        if key in keys:
            return version, False
    return ((5, 4), False) if dump.names else ((0, 0), False)


def access_of(flags: frozenset[str], order: int, version: Version, *, comm: str = "", irq: bool = False) -> Access:
    """``gfp_to_alloc_flags()`` and ``__gfp_pfmemalloc_flags()``, as far as a report tells."""
    cma = "MOVABLE" in flags and "RECLAIMABLE" not in flags
    high = "HIGH" in flags
    memalloc = re.fullmatch(r"kswapd\d+", comm) is not None and not irq
    marks = "NOMEMALLOC" in flags or not ("MEMALLOC" in flags or memalloc)
    if version >= (6, 3):
        blocks = "DIRECT_RECLAIM" in flags
        harder = not blocks and "NOMEMALLOC" not in flags
        atomic_blocks = harder and order > 0 and (high or version < (6, 18))
        return Access(
            half=high, quarter=high and harder, reserve=high or harder or atomic_blocks, highatomic=atomic_blocks,
            cma=cma, cpuset=(blocks or not high) and not irq, watermarks=marks,
        )  # fmt: skip
    atomic = "ATOMIC" in flags if version >= (4, 4) else not flags & {"DIRECT_RECLAIM", "NO_KSWAPD"}
    harder = atomic and "NOMEMALLOC" not in flags
    return Access(
        half=high, quarter=harder, reserve=harder, highatomic=harder, cma=cma, cpuset=not atomic and not irq,
        watermarks=marks,
    )  # fmt: skip


def unusable_kb(dump: Dump, zone: DumpZone, access: Access, version: Version, order: int) -> tuple[int, int]:
    """Free memory that the request may not count on: high-atomic reserve and CMA."""
    reserve = 0 if access.reserve else reserve_kb(dump, zone, version, order)
    return reserve, 0 if access.cma else zone.kb.get("free_cma", 0)


def reserve_kb(dump: Dump, zone: DumpZone, version: Version, order: int) -> int:
    """kB that are kept for high-order atomic requests, as far as the check of this kernel looks at them.

    4.4 to 5.4 don't print it. It is made of whole pageblocks, so while any block is on the HighAtomic list it is as
    much as these blocks, rounded up, and at least one pageblock of 512 pages.
    """
    if version < (4, 4) or (order == 0 and (4, 7) <= version < (5, 9)):
        return 0
    printed = zone.kb.get("free_highatomic", zone.kb.get("reserved_highatomic"))
    if printed is not None:
        return printed
    pageblock = PAGEBLOCK * dump.page_kb
    areas = zip(zone.counts, zone.letters, strict=True)
    alone = sum(count * dump.page_kb << at for at, (count, letters) in enumerate(areas) if letters == "H")
    blocks = -(-alone // pageblock) if alone else int(any("H" in letters for letters in zone.letters))
    return blocks * pageblock


def watermark_sum(
    dump: Dump, zone: DumpZone, mark_kb: int, highest: int, access: Access, version: Version, order: int
) -> Sum:
    """The test of ``__zone_watermark_ok()`` that is about numbers."""
    page, mark = dump.page_kb, mark_kb // dump.page_kb
    highatomic, cma = unusable_kb(dump, zone, access, version, order)
    low = mark
    if access.half:
        low -= low // 2
    if access.quarter:
        low -= low // 4
    reserve = zone.lowmem_reserve[highest] if highest < len(zone.lowmem_reserve) else 0
    return Sum(zone.kb["free"] // page, (1 << order) - 1, highatomic // page, cma // page, mark, low, reserve)


def finds_block(zone: DumpZone, order: int, access: Access, version: Version, summed: Sum) -> bool:
    """The test that is about blocks; orders with no letters printed are taken for usable."""
    if version < (4, 4):
        return _halving(zone, order, summed)
    any_block = access.quarter and version < (4, 15)
    usable = PCPTYPES + ("C" if access.cma else "") + ("H" if access.highatomic else "")
    for count, letters in zip(zone.counts[order:], zone.letters[order:], strict=True):
        if count and (any_block or not letters or set(letters) & set(usable)):
            return True
    return False


def _halving(zone: DumpZone, order: int, summed: Sum) -> bool:
    free, mark = summed.usable, summed.mark
    for at in range(order):
        free -= zone.counts[at] << at
        mark >>= 1
        if free <= mark:
            return False
    return True


def infer_boost(dump: Dump, zone: DumpZone, version: Version) -> tuple[int, bool]:
    """kB of boost in the watermarks, and whether it was printed.

    Up to 5.15 it wasn't. But low is above min by at least a quarter of what min is without boost, so a larger min
    shows how much of it is boost at least.
    """
    if "boost" in zone.kb:
        return zone.kb["boost"], True
    step = zone.kb["low"] - zone.kb["min"]
    if version < (5, 0) or step != zone.kb["high"] - zone.kb["low"] or zone.name in ("HighMem", "Movable"):
        return 0, False
    return max(zone.kb["min"] - 4 * step - 3 * dump.page_kb, 0), False
