"""Rate limits of reports (``lib/ratelimit.c`` (5.10))."""

from emu.zone.mmzone import Cpu
from shm.atomic import clock_ns, cmpxchg, store_release
from shm.core import core
from shm.struct import Struct, i64, struct, u32


@struct
class RateLimit(Struct):
    """``struct ratelimit_state``"""

    interval_ns: int = i64()  # 0: no limit
    burst: int = i64()
    begin: int = i64()  # CLOCK_MONOTONIC ns of the interval's start; 0: none yet
    printed: int = i64()
    missed: int = i64()
    lock: int = u32()  # its holder's index + 1
    _hole: int = u32()


@core(cold=True)
def ratelimit(cpu: Cpu, rs: RateLimit) -> bool:
    """``___ratelimit()``: may this report go out? Whoever finds the state locked is one too many."""
    if rs.interval_ns == 0:
        return True
    if cmpxchg(rs, "lock", 0, cpu.party.index + 1) != 0:
        return False
    now = clock_ns()
    if rs.begin == 0:
        rs.begin = now
    if now > rs.begin + rs.interval_ns:
        rs.missed = 0
        rs.begin = now
        rs.printed = 0
    allowed = rs.burst != 0 and rs.burst > rs.printed
    if allowed:
        rs.printed += 1
    else:
        rs.missed += 1
    store_release(rs, "lock", 0)
    return allowed
