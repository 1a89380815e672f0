"""The indices against those of ``emu explain``, which go through one zone's counts in plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emu.explain.dump import DumpZone
from emu.explain.index import fragmentation_index, unusable_index
from emu.html.fragmentation import extfrag_index, unusable_free_index
from emu.zone.mmzone import MAX_ORDER

COUNTS = st.lists(st.integers(0, 5000), min_size=MAX_ORDER, max_size=MAX_ORDER)


def zone(counts: list[int]) -> DumpZone:
    return DumpZone(0, "Normal", 1, {}, counts=counts, letters=["U"] * MAX_ORDER)


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_both_indices(rows: list[list[int]]) -> None:
    unusable, extfrag = (index(np.array(rows, np.int64)) for index in (unusable_free_index, extfrag_index))
    for i, counts in enumerate(rows):
        for order in range(MAX_ORDER):
            if sum(counts):
                assert unusable[i, order] == int(unusable_index(zone(counts), order, set()) * 1000 + 1e-9)
                known = fragmentation_index(zone(counts), order)
                assert extfrag[i, order] == (-1000 if known is None else known)


def test_known_values() -> None:
    pieces = np.array([[1024] + [0] * 10, [0] * 11, [0] * 10 + [1]])
    assert unusable_free_index(pieces)[:, [0, 1, 10]].tolist() == [[0, 1000, 1000], [1000] * 3, [0, 0, 0]]
    assert extfrag_index(pieces)[:, [0, 10]].tolist() == [[-1000, 1000 - 2000 // 1024], [0, 0], [-1000, -1000]]
