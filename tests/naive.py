"""Slow and obviously right: what the clever code has to agree with."""

from collections.abc import Iterable

MAX_ORDER = 11
PAGEBLOCK = 512
Block = tuple[int, int]


def blocks_of(free: set[int]) -> set[Block]:
    """The buddy system of a set of free pages: since buddies always merge, each page is in the largest aligned block
    of 2**order free pages, order <= 10."""
    blocks, left = set(), set(free)
    for order in reversed(range(MAX_ORDER)):
        for pfn in sorted(left):
            if pfn % (1 << order) == 0:
                block = range(pfn, pfn + (1 << order))
                if left.issuperset(block):
                    left.difference_update(block)
                    blocks.add((pfn, order))
    return blocks


def pages_of(blocks: Iterable[Block]) -> set[int]:
    """All pages of some blocks."""
    return {page for pfn, order in blocks for page in range(pfn, pfn + (1 << order))}


def watermarks(managed: list[int], min_free_kbytes: int, scale_factor: int) -> list[tuple[int, int, int]]:
    """min, low and high of each zone: min shared by size; a step is a quarter of it, or scale_factor/10000."""
    marks = []
    for pages in managed:
        least = (min_free_kbytes // 4) * pages // sum(managed)
        step = max(least // 4, pages * scale_factor // 10000)
        marks.append((least, least + step, least + 2 * step))
    return marks


def lowmem_reserve(managed: list[int], ratio: list[int]) -> list[list[int]]:
    """``[zone][for requests up to]`` of one node: the pages above this zone, by its ratio."""
    reserve = []
    for low, pages in enumerate(managed):
        row = []
        for high in range(len(managed)):
            above = sum(managed[low + 1 : high + 1])
            row.append(above // ratio[low] if high > low and pages and ratio[low] else 0)
        reserve.append(row)
    return reserve


def log2(x: int) -> int:
    """The power of two at or below."""
    return len(f"{x:b}") - 1


def pcp_batch(managed: int) -> int:
    """1/4096 of the zone, 64 at most; half more, to a power of two, minus one."""
    batch = max(min(managed / 1024, 256) // 4, 1)
    return int(2 ** log2(int(batch + batch // 2))) - 1


def pcp_sizes(managed: int, fraction: int) -> tuple[int, int]:
    """(high, batch) of every CPU's lists."""
    if fraction:
        high = managed // fraction
        return high, min(max(1, high // 4), 96)
    return 6 * pcp_batch(managed), max(1, pcp_batch(managed))


def bits(x: int) -> int:
    """Length of a number in binary; 0 has none."""
    return len(f"{x:b}") if x else 0


def threshold(cpus: int, managed: int) -> int:
    """How far a CPU's counter may drift: by CPUs and 128 MiB units, 125 at most."""
    return min(125, 2 * bits(cpus) * (1 + bits(managed * 4096 // (128 << 20))))


def watermark_ok(
    free: int, order: int, mark: int, lists: dict[Block, int], *, high: bool = False, harder: bool = False,
    oom: bool = False, cma: bool = False, reserve: int = 0, highatomic: int = 0, free_cma: int = 0,
) -> bool:  # fmt: skip
    """Are enough pages left after this request, and is there a block? ``lists``: (order, migratetype) -> blocks."""
    left = free - ((1 << order) - 1)
    if not (harder or oom):
        left -= highatomic
    if not cma:
        left -= free_cma
    if high:
        mark -= mark // 2
    if oom:
        mark -= mark // 2
    elif harder:
        mark -= mark // 4
    if left <= mark + reserve:
        return False
    usable = {0, 1, 2} | ({3} if harder or oom else set()) | ({4} if cma else set())
    return order == 0 or any(n for (o, mt), n in lists.items() if o >= order and mt in usable)


def max_boost(managed: int, high: int, factor: int) -> int:
    """How far a zone's watermarks may be boosted; zones under 4 pageblocks are not."""
    if managed < 4 * PAGEBLOCK or high * factor // 10000 == 0:
        return 0
    return max(high * factor // 10000, PAGEBLOCK)


def zone_fallback(local: int, distance: list[list[int]], zones: dict[int, list[int]]) -> list[tuple[int, int]]:
    """(node, zone) in the order an allocation on a node looks at them, nearest node first, highest zone first; for
    machines where no two nodes are equally far."""
    nodes = sorted(zones, key=lambda nid: (nid != local, distance[local][nid]))
    return [(nid, zid) for nid in nodes for zid in sorted(zones[nid], reverse=True)]


def dirty_limit(free: int, reserve: int, file: int, ratio: int, rt: bool) -> int:
    """Pages of a node that may be dirty."""
    limit = (max(free - reserve, 0) + file) * ratio // 100
    return limit + limit // 4 if rt else limit
