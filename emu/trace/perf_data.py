"""``perf.data`` as perf reads it: a file of tracepoint samples (``tools/perf/util/header.c``, 5.10).

Attributes (one for each type of event, whose number is also the id of its samples), then records - the kernel's text,
the names of the tasks, samples in the order of time with the payload of the ring buffer as RAW - then what perf must
know to decode the payloads.
"""

import struct
from collections.abc import Iterator

import numpy as np

from emu.trace.stream import Batch, Ints, Rows, Stream, put_words, words_of
from emu.trace.tracing_data import tracing_data

__all__ = ["perf_data"]

MAGIC = b"PERFILE2"
HEADER = struct.Struct("<8sQQ QQ QQ QQ 4Q")  # sizes, then attrs, data, event types, then a bit for each feature
SECTION = struct.Struct("<QQ")  # struct perf_file_section: offset, size
HEADER_TRACING_DATA = 1

ATTR = struct.Struct("<IIQQQQQIIQQQQIiQIHH")  # struct perf_event_attr up to PERF_ATTR_SIZE_VER5
TYPE_TRACEPOINT = 2
SAMPLE_TYPE = 1 | 2 | 4 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 16  # IP TID TIME CPU PERIOD RAW IDENTIFIER
ATTR_MMAP, ATTR_COMM, ATTR_USE_CLOCKID = 1 << 8, 1 << 9, 1 << 25
CLOCK_MONOTONIC = 1

RECORD = struct.Struct("<IHH")  # struct perf_event_header: type, misc, size
RECORD_MMAP, RECORD_LOST, RECORD_COMM, RECORD_SAMPLE = 1, 2, 3, 9
MISC_KERNEL = 1
# _text of x86-64. perf kmem crashes without a map of the kernel. Of one page: what lies in the map gets the names that
# the functions of the kernel have that perf itself runs on.
TEXT, TEXT_SIZE = 0xFFFFFFFF81000000, 0x1000
NOWHERE = TEXT + TEXT_SIZE  # the address of the sampled instruction
SAMPLE = np.dtype([
    ("type", "<u4"), ("misc", "<u2"), ("size", "<u2"), ("identifier", "<u8"), ("ip", "<u8"), ("pid", "<u4"),
    ("tid", "<u4"), ("time", "<u8"), ("cpu", "<u4"), ("res", "<u4"), ("period", "<u8"), ("raw_size", "<u4"),
])  # fmt: skip
LOST = np.dtype([("type", "<u4"), ("misc", "<u2"), ("size", "<u2"), ("id", "<u8"), ("lost", "<u8")])


def perf_data(stream: Stream) -> Iterator[bytes]:
    """The file, in parts."""
    ids = b"".join(struct.pack("<Q", t.id) for t in stream.types)
    attrs_at = HEADER.size + len(ids)
    attrs = b""
    for i, t in enumerate(stream.types):
        attrs += _attr(t.id) + SECTION.pack(HEADER.size + 8 * i, 8)
    data_at = attrs_at + len(attrs)
    data = _kernel_map() + b"".join(_comm(pid, comm) for pid, comm in sorted(stream.comms.items())) + _samples(stream)
    yield HEADER.pack(
        MAGIC, HEADER.size, ATTR.size + SECTION.size, attrs_at, len(attrs), data_at, len(data), 0, 0,
        1 << HEADER_TRACING_DATA, 0, 0, 0,
    )  # fmt: skip
    yield ids
    yield attrs
    yield data
    feature = tracing_data("0.6", stream.types, stream.comms)
    yield SECTION.pack(data_at + len(data) + SECTION.size, len(feature))
    yield feature


def _attr(type_id: int) -> bytes:
    flags = ATTR_MMAP | ATTR_COMM | ATTR_USE_CLOCKID
    head = (TYPE_TRACEPOINT, ATTR.size, type_id, 1, SAMPLE_TYPE, 0, flags)
    return ATTR.pack(*head, *(0,) * 7, CLOCK_MONOTONIC, *(0,) * 4)


def _kernel_map() -> bytes:
    name = b"[kernel.kallsyms]_text\0\0"
    body = struct.pack("<iIQQQ", -1, 0, TEXT, TEXT_SIZE, TEXT) + name
    return RECORD.pack(RECORD_MMAP, MISC_KERNEL, RECORD.size + len(body)) + body


def _comm(pid: int, comm: str) -> bytes:
    name = comm.encode()
    body = struct.pack("<II", pid, pid) + name.ljust(len(name) // 8 * 8 + 8, b"\0")
    return RECORD.pack(RECORD_COMM, 0, RECORD.size + len(body)) + body


def _samples(stream: Stream) -> bytes:
    """A record for each event, after one that says how many were lost before it, if any were."""
    sizes = np.zeros(len(stream.ts), np.int64)
    for batch in stream.batches:
        sizes[batch.index] = _sample_size(batch)
    missing = np.flatnonzero(stream.lost)
    sizes[missing] += LOST.itemsize
    ends = np.cumsum(sizes)
    out = np.zeros(int(sizes.sum()) // 4, "<u4")
    for batch in stream.batches:
        at = (ends[batch.index] - _sample_size(batch)) // 4
        put_words(out, at, words_of(_sample_heads(stream, batch)))
        put_words(out, at + SAMPLE.itemsize // 4, words_of(batch.rows))
    put_words(out, (ends - sizes)[missing] // 4, words_of(_lost_records(stream, missing)))
    return out.tobytes()


def _sample_size(batch: Batch) -> int:
    """Bytes of a record: whole 64-bit words."""
    return -(-(SAMPLE.itemsize + batch.rows.dtype.itemsize) // 8) * 8


def _sample_heads(stream: Stream, batch: Batch) -> Rows:
    """All of each record but the payload."""
    heads = np.zeros(len(batch.index), SAMPLE)
    size, pid = _sample_size(batch), stream.pid[batch.index]
    values = {
        "type": RECORD_SAMPLE, "misc": MISC_KERNEL, "size": size, "identifier": batch.type.id,
        "ip": NOWHERE, "pid": pid, "tid": pid, "time": stream.ts[batch.index], "cpu": stream.cpu[batch.index],
        "period": 1, "raw_size": size - SAMPLE.itemsize,
    }  # fmt: skip
    for name, value in values.items():
        heads[name] = value
    return heads


def _lost_records(stream: Stream, missing: Ints) -> Rows:
    records = np.zeros(len(missing), LOST)
    if len(missing):
        records["type"], records["size"] = RECORD_LOST, LOST.itemsize
        records["id"] = stream.types[0].id
        records["lost"] = stream.lost[missing]
    return records
