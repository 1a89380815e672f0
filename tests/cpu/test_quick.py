"""The straight-line way to a page decides as the long way does: a traced CPU always takes the long one."""

import pytest

from emu.zone.boot import Shape
from emu.zone.gfp import (
    __GFP_DMA32,
    __GFP_NOWARN,
    __GFP_RECLAIMABLE,
    __GFP_THISNODE,
    __GFP_WRITE,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOWAIT,
)  # fmt: skip
from emu.zone.mmzone import Page
from emu.zone.snapshot import view
from shm.struct import record_at
from tests.bench import Word, bench, churn, one_zone, scaled, two_nodes, two_zones

GFPS = [
    GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC, GFP_NOWAIT | __GFP_NOWARN, GFP_KERNEL | __GFP_RECLAIMABLE,
    GFP_KERNEL | __GFP_DMA32, GFP_KERNEL | __GFP_THISNODE, GFP_KERNEL | __GFP_WRITE,
]  # fmt: skip
SLOTS = 6000
SHAPES = {"one zone": one_zone(4096), "two zones": two_zones(4096), "two nodes": two_nodes(4096)}


def after(shape: Shape, trace: int, seed: int) -> tuple[object, ...]:
    """What random allocations and frees leave behind, with memory short at times."""
    with bench(shape) as b:
        b.cpu().trace = trace
        for i, gfp in enumerate(GFPS):
            record_at(Word, b.base + b.m.script + (SLOTS + i) * 8).value = gfp
        with b.kernel_thread():
            failed = [churn(b.m, b.cpu(), seed + i, scaled(20000), SLOTS, SLOTS, len(GFPS)) for i in range(3)]
        pages = view(b.m, Page, b.m.mem_map, b.m.max_pfn).tobytes()
        state = b.board.state()
        return failed, pages, {k: v for k, v in state.items() if k != "jiffies"}


@pytest.mark.parametrize("seed", [1, 12345])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_quick_way_ends_where_the_long_way_does(name: str, seed: int) -> None:
    quick, long = after(SHAPES[name], 0, seed), after(SHAPES[name], 1, seed)
    assert quick[0] == long[0]
    assert quick[2] == long[2]
    assert quick[1] == long[1]
