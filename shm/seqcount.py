"""``seqcount_t``: readers see a consistent set of fields without a lock, and retry when a writer was at work."""

from shm.atomic import cpu_relax, fetch_add, load_acquire, smp_mb
from shm.core import core
from shm.struct import Struct, struct, u32

__all__ = ["Seqcount", "read_seqcount_begin", "read_seqcount_retry", "write_seqcount_begin", "write_seqcount_end"]


@struct
class Seqcount(Struct):
    """Odd while a write is under way. Writers need a lock of their own."""

    sequence: int = u32()


@core
def read_seqcount_begin(s: Seqcount) -> int:
    """Wait until no write is under way; returns the cookie for :func:`read_seqcount_retry`."""
    while True:
        cookie = load_acquire(s, "sequence")
        if cookie & 1 == 0:
            return cookie
        cpu_relax()


@core
def read_seqcount_retry(s: Seqcount, cookie: int) -> bool:
    """Whether what was read since the cookie may be torn."""
    smp_mb()
    return load_acquire(s, "sequence") != cookie


@core
def write_seqcount_begin(s: Seqcount) -> None:
    """Readers that begin now wait; those under way will retry."""
    fetch_add(s, "sequence", 1)
    smp_mb()


@core
def write_seqcount_end(s: Seqcount) -> None:
    """The new values are there."""
    fetch_add(s, "sequence", 1)
