"""``trace.dat`` as trace-cmd and KernelShark read it: version 6 (``trace-cmd.dat.v6(5)``)."""

import struct
from collections.abc import Iterator

from emu.trace.ring_pages import cpu_pages
from emu.trace.stream import Stream
from emu.trace.tracing_data import PAGE_SIZE, tracing_data

__all__ = ["trace_dat"]

OPTION_TRACECLOCK = 4
CLOCK = b"local global counter uptime perf [mono] mono_raw boot x86-tsc\n"  # trace_clock under tracefs


def trace_dat(stream: Stream) -> Iterator[bytes]:
    """The file, in parts: what is known of the kernel, and the ring buffer of each CPU from a new page on."""
    cpus = [cpu_pages(stream, cpu) for cpu in range(stream.nr_cpus)]
    head = tracing_data("6", stream.types, stream.comms) + struct.pack("<I", len(cpus))
    head += b"options  \0" + struct.pack("<HI", OPTION_TRACECLOCK, len(CLOCK)) + CLOCK + struct.pack("<H", 0)
    head += b"flyrecord\0"
    at = _whole_pages(len(head) + 16 * len(cpus))
    table = b""
    for pages in cpus:
        table += struct.pack("<QQ", at, len(pages))
        at += len(pages)
    yield (head + table).ljust(_whole_pages(len(head) + len(table)), b"\0")
    yield from cpus


def _whole_pages(size: int) -> int:
    return -(-size // PAGE_SIZE) * PAGE_SIZE
