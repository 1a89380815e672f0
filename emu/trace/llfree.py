"""A recording as a trace that LLFree's ``replay`` runs (luhsra/llfree-rs, eval/src/bin/replay.rs).

Pages of 4 KiB. The first one: 32-bit numbers of further pages, of CPUs, and the highest pfn. Each of the others belongs
to a CPU: its number, and from byte 16 on 255 entries of 128 bits, low bits first: time in µs (38), pfn (24), whether
allocated (1), order (4), gfp flags (29), pid (32). The rest of a CPU's last page is zero.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emu.trace.recording import Recording
from emu.zone.event import EV_ALLOC, EV_FREE

__all__ = ["LARGEST_PFN", "llfree_trace"]

PAGE, ENTRY, FIRST = 4096, 16, 16
ENTRIES = (PAGE - FIRST) // ENTRY
LARGEST_PFN = (1 << 24) - 1
GFP_BITS = (1 << 29) - 1


def llfree_trace(recording: Recording) -> Iterator[bytes]:
    """The file, page by page. Allocations that failed are left out. No pfn may be over LARGEST_PFN: 64 GiB."""
    rows = recording.events
    rows = rows[((rows["kind"] == EV_ALLOC) | (rows["kind"] == EV_FREE)) & (rows["pfn"] >= 0)]
    highest = int(rows["pfn"].max()) if len(rows) else 0
    pages = []
    for cpu in range(recording.nr_cpus):
        entries = _entries(rows[rows["cpu"] == cpu], recording, int(rows["ts"][0]) if len(rows) else 0)
        for at in range(0, len(entries), ENTRIES):
            head = cpu.to_bytes(4, "little").ljust(FIRST, b"\0")
            pages.append((head + entries[at : at + ENTRIES].tobytes()).ljust(PAGE, b"\0"))
    yield np.array([len(pages), recording.nr_cpus, highest], "<u4").tobytes().ljust(PAGE, b"\0")
    yield from pages


def _entries(rows: NDArray[np.void], recording: Recording, began: int) -> NDArray[np.uint64]:
    """Two words for each event."""
    time, pfn, order = (rows["ts"] - began) // 1000, rows["pfn"], rows["order"].astype("u8")
    alloc = (rows["kind"] == EV_ALLOC).astype("u8")
    words = np.zeros((len(rows), 2), "<u8")
    words[:, 0] = (
        time.astype("u8") | pfn.astype("u8") << np.uint64(38) | alloc << np.uint64(62) | order << np.uint64(63)
    )
    flags, pid = rows["gfp"].astype("u8") & np.uint64(GFP_BITS), recording.facts.pids(rows["task"]).astype("u8")
    words[:, 1] = order >> np.uint64(1) | flags << np.uint64(3) | pid << np.uint64(32)
    return words
