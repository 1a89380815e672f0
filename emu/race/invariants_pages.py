"""Invariants of pages: where each of them is, and whether the books say so.

For memory at rest, but for those that hold ``always``. The lists are walked with an eye on every link, since what is
looked for are broken ones. A result names the page as pfn + 1, or says by how much a count is wrong.

:data:`SOUND` are those that any scenario may ask for; each says which bug it alone notices.
"""

from emu.race.area import RaceArea
from emu.race.books import (
    batch_is_within_high,
    free_pages_are_counted,
    highatomic_is_counted,
    isolation_is_counted,
    mlock_is_counted,
    overshoot_is_bounded,
    pcp_count_is_length,
    watermark_is_kept,
)  # fmt: skip
from emu.race.lists import (
    isolated_pages_are_apart,
    lists_match_blocks,
    nothing_isolated_on_pcp,
    nr_free_is_length,
    one_owner,
    pages_are_conserved,
)  # fmt: skip
from emu.race.scenario import Invariant
from emu.zone.mmzone import MAX_NR_ZONES, Machine, Zone
from shm.core import core

BASE = 0
(CONSERVED, ONE_OWNER, NR_FREE, PCP_COUNT, FREE_COUNTED, APART, ISOLATION, MATCH, HIGHATOMIC, NOT_ON_PCP, BATCH,
 WATERMARK, OVERSHOOT, MLOCK) = range(BASE, BASE + 14)  # fmt: skip

pages_conserved = Invariant(
    "pages-conserved", CONSERVED,
    "Each page is in exactly one place: in a free block, on a pcp list, or in use. One without a reference is on a list"
    " or the tail of a block in use.",
)  # fmt: skip
one_owner_each = Invariant("one-owner", ONE_OWNER, "No page is handed out twice.")
nr_free_right = Invariant("nr-free", NR_FREE, "free_area[order].nr_free is the number of blocks on the order's lists.")
pcp_count_right = Invariant("pcp-count", PCP_COUNT, "pcp->count is the number of pages on the pcp lists.")
free_counted = Invariant(
    "free-counted", FREE_COUNTED,
    "NR_FREE_PAGES with all differentials is the number of pages in free blocks that are not on ISOLATE lists.",
)  # fmt: skip
isolated_apart = Invariant(
    "isolated-apart", APART, "A free page is on an ISOLATE list if its pageblock is isolated, and only then."
)
isolation_counted = Invariant(
    "isolation-counted", ISOLATION, "nr_isolate_pageblock is the number of ISOLATE pageblocks."
)
lists_match = Invariant(
    "lists-match", MATCH,
    "A free page is on the list of its pageblock's type, isolated ones aside. (5.10 tolerates others.)",
)  # fmt: skip
highatomic_counted = Invariant(
    "highatomic-counted", HIGHATOMIC, "nr_reserved_highatomic is 512 for each HIGHATOMIC pageblock."
)
none_isolated_on_pcp = Invariant(
    "isolated-not-on-pcp", NOT_ON_PCP, "No page of an isolated pageblock is left on a pcp list."
)
batch_within_high = Invariant(
    "batch-within-high", BATCH, "pcp->batch is never above pcp->high, but for a batch of 1.", always=True
)
watermark_kept = Invariant(
    "watermark-kept", WATERMARK,
    "No zone is below its min watermark by what CPUs take that pass the check together.",
)  # fmt: skip
overshoot_bounded = Invariant(
    "overshoot-bounded", OVERSHOOT,
    "Free pages are below the min watermark by at most what all CPUs together can take in one go.", always=True,
)  # fmt: skip
mlock_counted = Invariant("counter-true", MLOCK, "The counter with all differentials is what was added to it.")

PAGE_INVARIANTS: tuple[Invariant, ...] = (
    pages_conserved, one_owner_each, nr_free_right, pcp_count_right, free_counted, isolated_apart, isolation_counted,
    lists_match, highatomic_counted, none_isolated_on_pcp, batch_within_high, watermark_kept, overshoot_bounded,
    mlock_counted,
)  # fmt: skip
SOUND: tuple[Invariant, ...] = (
    pages_conserved, one_owner_each, nr_free_right, pcp_count_right, free_counted, isolated_apart, isolation_counted,
    batch_within_high,
)  # fmt: skip
"""What holds at the end of every schedule of every scenario."""


@core(cold=True)
def check_books(m: Machine, a: RaceArea, zone: Zone, code: int) -> int:
    """What is written down of a zone."""
    if code == PCP_COUNT:
        return pcp_count_is_length(m, zone)
    if code == FREE_COUNTED:
        return free_pages_are_counted(m, zone)
    if code == ISOLATION:
        return isolation_is_counted(m, zone)
    if code == HIGHATOMIC:
        return highatomic_is_counted(m, zone)
    if code == BATCH:
        return batch_is_within_high(m, zone)
    if code == WATERMARK:
        return watermark_is_kept(m, a, zone)
    return overshoot_is_bounded(m, a, zone)


@core(cold=True)
def check_pages_of(m: Machine, a: RaceArea, zone: Zone, code: int) -> int:
    """Those that are asked of each zone that has memory."""
    if code == NR_FREE:
        return nr_free_is_length(m, zone)
    if code == APART:
        return isolated_pages_are_apart(m, zone)
    if code == MATCH:
        return lists_match_blocks(m, zone)
    if code == NOT_ON_PCP:
        return nothing_isolated_on_pcp(m, zone)
    return check_books(m, a, zone, code)


@core(cold=True)
def check_pages(m: Machine, a: RaceArea, code: int) -> int:
    """One of this family: 0 if it holds."""
    if code == CONSERVED:
        return pages_are_conserved(m, a)
    if code == ONE_OWNER:
        return one_owner(m, a)
    if code == MLOCK:
        return mlock_is_counted(m, a)
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages != 0:
                wrong = check_pages_of(m, a, zone, code)
                if wrong != 0:
                    return wrong
    return 0
