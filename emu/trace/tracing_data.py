"""What a reader must know of the kernel that traced: the layout of its ring buffer and of its events.

The head of a trace.dat (``trace-cmd.dat(5)``, version 6) and the HEADER_TRACING_DATA of a perf.data (version 0.6) are
the same bytes but for the version.
"""

import struct
from collections.abc import Iterable, Mapping
from itertools import groupby

from emu.trace.event_type import EventType, format_text
from emu.trace.types.vmscan import SYMBOLS

__all__ = ["PAGE_HEADER", "PAGE_SIZE", "tracing_data"]

PAGE_SIZE = 4096
PAGE_HEADER = 16  # struct buffer_data_page: time stamp, commit
MAGIC = b"\x17\x08\x44tracing"
LITTLE_ENDIAN, LONG_SIZE = 0, 8

# events/header_page and events/header_event under tracefs
HEADER_PAGE = f"""\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:{PAGE_HEADER};\tsize:{PAGE_SIZE - PAGE_HEADER};\tsigned:1;
"""
HEADER_EVENT = """\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""
KALLSYMS = "".join(f"{at:016x} t {name}\n" for at, name in SYMBOLS.items()).encode()


def tracing_data(version: str, types: Iterable[EventType], comms: Mapping[int, str]) -> bytes:
    """Formats of the events, symbols, no printk formats, and the names of the tasks."""
    parts = [
        MAGIC, version.encode(), b"\0", struct.pack("<BBI", LITTLE_ENDIAN, LONG_SIZE, PAGE_SIZE),
        b"header_page\0", _sized(HEADER_PAGE),
        b"header_event\0", _sized(HEADER_EVENT),
        struct.pack("<I", 0),  # formats of ftrace's own events
        _formats(types),
        struct.pack("<I", len(KALLSYMS)), KALLSYMS,
        struct.pack("<I", 0),  # printk_formats
        _sized("".join(f"{pid} {comm}\n" for pid, comm in sorted(comms.items()))),
    ]  # fmt: skip
    return b"".join(parts)


def _formats(types: Iterable[EventType]) -> bytes:
    by_system = {
        system: list(of) for system, of in groupby(sorted(types, key=lambda t: (t.system, t.id)), lambda t: t.system)
    }
    out = struct.pack("<I", len(by_system))
    for system, of in by_system.items():
        out += system.encode() + b"\0" + struct.pack("<I", len(of))
        out += b"".join(_sized(format_text(t)) for t in of)
    return out


def _sized(text: str) -> bytes:
    """A text after its size in 64 bits."""
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
