"""Invariants of struct pages, free ones and those in use."""

from collections.abc import Callable, Iterator

import numpy as np

from emu.zone.census import PCP, Chunk, told
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES,
)  # fmt: skip
from emu.zone.page import PAGE_FLAGS_CHECK_AT_FREE, PG_buddy, PG_guard, PG_head, PG_hwpoison, PG_kmemcg, PG_table

__all__ = ["PAGE_RULES"]
Findings = Iterator[str]


def listed_pages_are_unreferenced(c: Chunk) -> Findings:
    """Nobody holds a reference on a page that is in a free block or on a pcp list."""
    for i in np.flatnonzero(c.idle & (c.refcount != 0)):
        where = "on a pcp list" if c.kind[i] == PCP else "in a free block"
        yield f"pfn:{c.pfn[i]:05x}: {where}, refcount expected 0, found {c.refcount[i]}"


def listed_pages_are_clean(c: Chunk) -> Findings:
    """A page in a free block or on a pcp list is unmapped, unowned, and has no flag that a user of it sets."""
    flags = PAGE_FLAGS_CHECK_AT_FREE | PG_head | PG_table | PG_kmemcg
    yield from told(c.pfn[c.idle & (c.mapcount != -1)], "free, expected mapcount -1")
    yield from told(c.pfn[c.idle & (c.mapping != 0)], "free, expected no mapping")
    yield from told(c.pfn[c.idle & (c.flags & flags != 0)], "free, expected without flags of a page in use")


def buddies_are_listed(c: Chunk) -> Findings:
    """A page with PG_buddy is the head of a free block on a list."""
    flagged = c.mine & (c.flags & PG_buddy != 0)
    pfns = np.concatenate([p for p in c.census.free.values() if len(p)] or [np.empty(0, np.int64)])
    near = pfns[(pfns >= c.pfn[0]) & (pfns <= c.pfn[-1])]
    yield from told(np.setdiff1d(c.pfn[flagged], near), "PG_buddy, expected on a free list")


def no_page_is_lost(c: Chunk) -> Findings:
    """An unreferenced page that is on no list is a tail: right behind a page in use that starts an aligned block."""
    idle = c.taken & (c.refcount == 0) & (c.flags & (PG_hwpoison | PG_guard) == 0)
    if not idle.any():
        return
    at = np.arange(len(idle))
    head = np.maximum.accumulate(np.where(idle, -1, at))
    lost = idle & ~((head >= 0) & c.taken[head])
    pfn = c.pfn[head]
    lost |= idle & (c.pfn >= pfn + np.minimum(pfn & -pfn, MAX_ORDER_NR_PAGES))
    yield from told(c.pfn[lost], "refcount 0 and on no list, expected free or part of a block in use")


def tails_name_their_head(c: Chunk) -> Findings:
    """A tail page of a compound page points at a head before it, whose order reaches it."""
    tails = np.flatnonzero(c.taken & (c.next & 1 != 0) & (c.refcount == 0))
    heads = (c.next[tails].astype(np.int64) - 1 - c.census.m.mem_map_link) >> 3
    known = (heads >= 0) & (heads < c.census.m.max_pfn)
    heads = np.where(known, heads, 0)
    right = known & (c.census.pages["page_flags"][heads] & PG_head != 0) & (heads < c.pfn[tails])
    right &= c.pfn[tails] < heads + (1 << np.clip(c.census.pages["private"][heads + 1], 0, MAX_ORDER))
    yield from told(c.pfn[tails][~right], "tail, expected to point at the head of its compound page")


PAGE_RULES: tuple[Callable[[Chunk], Findings], ...] = (
    listed_pages_are_unreferenced, listed_pages_are_clean, buddies_are_listed, no_page_is_lost, tails_name_their_head,
)  # fmt: skip
