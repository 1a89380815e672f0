"""The checker of locking rules in checked mode, in the spirit of ``kernel/locking/lockdep.c``.

Every lock belongs to a class. While processes run, each acquisition is noted: which classes were held (an edge of the
order graph), in which context and with interrupts on or off (a use of the class). The rules are then looked at in the
graph, so a deadlock that did not happen is found as well as one that did: whoever reads :mod:`emu.lockdep`'s report
sees both paths. Only what no graph can tell later is noted as it happens: a lock taken twice, a lock given back by
somebody else.

In the other modes nothing of this exists.
"""

from shm.atomic import cmpxchg, fetch_add
from shm.core import core
from shm.point import MAX_HELD, Party
from shm.struct import Array, At, Struct, array, i32, i64, struct, u32

__all__ = ["FOREIGN_RELEASE", "MAX_CLASSES", "RECURSION", "SPLATS", "TOO_DEEP", "Lockdep", "lock_acquire",
           "lock_release", "use_index"]  # fmt: skip

MAX_CLASSES = 24
SPLATS = 16
USES = 4  # (in an interrupt or not) x (interrupts on or off)
RECURSION, FOREIGN_RELEASE, TOO_DEEP = 1, 2, 3


@struct
class Edge(Struct):
    """A class was taken while another was held: where the one had been, and where the other was taken first."""

    held_site: int = u32()
    site: int = u32()
    party: int = i32()
    trylock: int = i32()


@struct
class Use(Struct):
    """A class was taken in this context: where first."""

    site: int = u32()
    party: int = i32()


@struct
class Splat(Struct):
    """A rule broken in the act."""

    kind: int = i32()
    lock_class: int = i32()
    party: int = i32()
    held_site: int = u32()
    site: int = u32()
    _hole: int = i32()
    lock: int = i64()  # offset from the party table


@struct
class Lockdep(Struct):
    """The graph of a machine. A zero site means that it was never seen."""

    _align_ = 64

    splats_seen: int = i64()
    acquisitions: int = i64()
    splats: Array[Splat] = array(Splat, SPLATS)
    uses: Array[Use] = array(Use, MAX_CLASSES * USES)
    edges: Array[Edge] = array(Edge, MAX_CLASSES * MAX_CLASSES)  # [held * MAX_CLASSES + taken]


lockdep_at = At(Lockdep)


def use_index(lock_class: int, in_irq: bool, irqs_off: bool) -> int:
    """Where in ``uses``."""
    return lock_class * USES + in_irq * 2 + irqs_off


@core(cold=True)
def _splat(me: Party, kind: int, lock_class: int, lock: int, held_site: int, where: int) -> None:
    graph = lockdep_at(me, me.lockdep - me.index * me.stride)
    at = fetch_add(graph, "splats_seen", 1)
    if at >= SPLATS:
        return
    splat = graph.splats[at]
    splat.lock_class = lock_class
    splat.party = me.index
    splat.held_site = held_site
    splat.site = where
    splat.lock = lock
    splat.kind = kind


@core(cold=True)
def lock_acquire(me: Party, lock: int, lock_class: int, where: int, trylock: int) -> None:
    """``lockdep.c:lock_acquire() (5.10)``: note the use and an edge from every lock held."""
    if me.lockdep == 0:
        return
    graph = lockdep_at(me, me.lockdep - me.index * me.stride)
    use = graph.uses[lock_class * USES + me.context * 2 + me.irqs_off]
    if use.site == 0 and cmpxchg(use, "site", 0, where) == 0:
        use.party = me.index
    base = me.context * MAX_HELD  # what the interrupted task holds is no business of the interrupt's
    nr = me.nr_held[me.context]
    for i in range(base, base + nr):
        held = me.held[i]
        if held.lock == lock or (held.lock_class == lock_class and trylock == 0):
            _splat(me, RECURSION, lock_class, lock, held.site, where)
        edge = graph.edges[held.lock_class * MAX_CLASSES + lock_class]
        if edge.site == 0 and cmpxchg(edge, "site", 0, where) == 0:
            edge.held_site = held.site
            edge.party = me.index
            edge.trylock = trylock
        elif trylock == 0:
            edge.trylock = 0
    if nr == MAX_HELD:
        _splat(me, TOO_DEEP, lock_class, lock, 0, where)
        return
    top = me.held[base + nr]
    top.lock = lock
    top.lock_class = lock_class
    top.site = where
    me.nr_held[me.context] = nr + 1


@core(cold=True)
def lock_release(me: Party, lock: int, lock_class: int) -> None:
    """``lockdep.c:lock_release() (5.10)``: it must be held; locks need not be given back in order."""
    if me.lockdep == 0:
        return
    base = me.context * MAX_HELD
    nr = me.nr_held[me.context]
    for i in range(base + nr - 1, base - 1, -1):
        if me.held[i].lock == lock:
            for j in range(i, base + nr - 1):
                me.held[j].lock = me.held[j + 1].lock
                me.held[j].lock_class = me.held[j + 1].lock_class
                me.held[j].site = me.held[j + 1].site
            me.nr_held[me.context] = nr - 1
            return
    _splat(me, FOREIGN_RELEASE, lock_class, lock, 0, me.lock_site)
