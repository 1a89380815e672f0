"""How many pages of each zone are allocated, as counters over time, in the form of Chrome's trace events.

A recording doesn't tell how many there were before: the counters begin at 0, and what was allocated before and freed
since counts below. Events that were lost are missing from them for good.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from emu.trace.facts import ZoneFacts
from emu.trace.stream import Stream
from emu.trace.timeline import PROCESS
from emu.zone.mmzone import ZONE_NAMES

__all__ = ["counters"]

SAMPLES = 4000  # of a counter, at most: what a screen can show
SIGNS = {"mm_page_alloc": 1, "mm_page_free": -1}


def counters(stream: Stream, zones: Sequence[ZoneFacts]) -> Iterator[dict[str, Any]]:
    """A counter for each zone in which something happens."""
    changes = np.zeros(len(stream.ts), np.int64)
    pfns = np.full(len(stream.ts), -1)
    for batch in stream.batches:
        if batch.type.name in SIGNS:
            changes[batch.index] = SIGNS[batch.type.name] << batch.rows["order"].astype(np.int64)
            pfns[batch.index] = batch.rows["pfn"].astype(np.int64)  # -1: the allocation failed
    for zone in zones:
        here = np.flatnonzero((pfns >= zone.start_pfn) & (pfns < zone.start_pfn + zone.spanned))
        totals = np.cumsum(changes[here])
        shown = np.unique(np.linspace(0, len(here) - 1, min(SAMPLES, len(here)), dtype=np.int64))
        name = f"node{zone.nid} {ZONE_NAMES[zone.zid]}: pages allocated since the beginning"
        for ts, total in zip(stream.ts[here[shown]].tolist(), totals[shown].tolist(), strict=True):
            yield {"ph": "C", "pid": PROCESS, "ts": ts / 1000, "name": name, "args": {"pages": total}}
