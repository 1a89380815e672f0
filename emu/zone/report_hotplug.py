"""What ``dmesg`` says of memory that goes offline and online (``mm/memory_hotplug.c``, ``mm/page_alloc.c`` (5.10)).

Differs from 5.10: the reason of a failure and memory that comes online are told without dynamic debugging switched on.
"""

from collections.abc import Iterator
from typing import Any

from emu.zone.mmzone import Machine

_EVENT_ONLINE = 1 << 62
# by the event's order
REASONS = (
    "", "memory holes", "multizone range", "notifier failure", "failure to isolate range", "signal backoff",
    "unmovable page", "too many attempts",
)  # fmt: skip


def hotplug(event: Any, m: Machine) -> Iterator[str]:
    """The lines of one EV_HOTPLUG record."""
    start, pages, why, page = int(event["a"]), int(event["b"]), int(event["order"]), int(event["pfn"])
    online = pages & _EVENT_ONLINE != 0
    pages &= _EVENT_ONLINE - 1
    where = f"[mem {start << 12:#012x}-{(start + pages << 12) - 1:#012x}]"
    if why == 0:
        yield f"Onlined Pages {pages} {where}" if online else f"Offlined Pages {pages}"
        return
    if page >= 0 and REASONS[why] == "failure to isolate range":
        yield f"page dumped because: unmovable page pfn:{page:#x}"
    yield f"online_pages {where} failed" if online else f"memory offlining {where} failed due to {REASONS[why]}"
