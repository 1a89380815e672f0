"""Events of one CPU in pages of the kernel's ring buffer (``kernel/trace/ring_buffer.c``, 5.10).

A page begins with the time of its first event and the bytes in use. Each event has a header of 32 bits: 5 bits
``type_len`` (words of payload, up to 28) and 27 bits of ns since the event before. A longer time is an event of its own
in front (``time_extend``); a longer payload has its size in a word after the header.
"""

import numpy as np

from emu.trace.stream import Ints, Stream, Words, put_words, words_of
from emu.trace.tracing_data import PAGE_HEADER, PAGE_SIZE

__all__ = ["cpu_pages"]

ROOM = PAGE_SIZE - PAGE_HEADER
TIME_EXTEND = 30  # enum ring_buffer_type
DELTA_BITS = 27
MOST_WORDS = 28  # RINGBUF_TYPE_DATA_TYPE_LEN_MAX
MISSED_EVENTS = 1 << 31  # in commit: events were lost before this page...
MISSED_STORED = 1 << 30  # ...and their number follows the last event


def cpu_pages(stream: Stream, cpu: int) -> bytes:
    """All pages of a CPU; none if it has no event."""
    mine = np.flatnonzero(stream.cpu == cpu)
    ts, lost = stream.ts[mine], stream.lost[mine]
    words = np.zeros(len(stream.ts), np.int64)
    for batch in stream.batches:
        words[batch.index] = batch.rows.dtype.itemsize // 4
    words = words[mine]

    long = words > MOST_WORDS
    delta = np.diff(ts, prepend=ts[:1])
    extended = delta >> DELTA_BITS != 0
    sizes = 4 * (1 + long + words)
    starts = _page_starts(sizes, 8 * extended, np.flatnonzero(lost))
    delta[starts], extended[starts] = 0, False
    sizes += 8 * extended

    page = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(mine)))
    ends = np.cumsum(sizes)
    before = (ends - sizes)[starts]  # bytes in all pages before each
    at = (page * PAGE_SIZE + PAGE_HEADER + ends - sizes - before[page]) // 4
    out = np.zeros(len(starts) * PAGE_SIZE // 4, "<u4")

    at_extended, by = at[extended], delta[extended]
    out[at_extended] = TIME_EXTEND | (by & (1 << DELTA_BITS) - 1) << 5
    out[at_extended + 1] = by >> DELTA_BITS
    at += 2 * extended
    out[at] = np.where(long, 0, words) | np.where(extended, 0, delta) << 5
    out[at[long] + 1] = 4 * (words[long] + 1)
    _put_payloads(out, stream, mine, at + 1 + long)
    _put_page_headers(out, ts[starts], np.diff(before, append=ends[-1:]), lost[starts])
    return out.tobytes()


def _page_starts(sizes: Ints, extends: Ints, breaks: Ints) -> Ints:
    """The first event of each page, as many in each as it has room for. The first needs no ``time_extend`` in front;
    an event in ``breaks`` begins a page."""
    starts, first = [], 0
    ends = np.cumsum(sizes + extends)
    breaks = np.append(breaks, len(sizes))
    while first < len(sizes):
        starts.append(first)
        full = np.searchsorted(ends, ends[first] - sizes[first] + ROOM, "right")
        first = min(int(full), int(breaks[np.searchsorted(breaks, first, "right")]))
    return np.array(starts, np.int64)


def _put_payloads(out: Words, stream: Stream, mine: Ints, at: Ints) -> None:
    place = np.full(len(stream.ts), -1)
    place[mine] = at
    for batch in stream.batches:
        here = place[batch.index]
        put_words(out, here[here >= 0], words_of(batch.rows)[here >= 0])


def _put_page_headers(out: Words, ts: Ints, used: Ints, lost: Ints) -> None:
    pages = out.view("<u8").reshape(-1, PAGE_SIZE // 8)
    pages[:, 0] = ts
    stored = (lost > 0) & (used + 8 <= ROOM)
    pages[:, 1] = used | np.where(lost > 0, MISSED_EVENTS, 0) | np.where(stored, MISSED_STORED, 0)
    halves = out.reshape(-1, PAGE_SIZE // 4)
    end = (PAGE_HEADER + used[stored]) // 4
    halves[stored, end] = lost[stored] & 0xFFFFFFFF
    halves[stored, end + 1] = lost[stored] >> 32
