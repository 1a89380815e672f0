"""What the checker of checked mode has found: deadlocks that can happen, from runs in which none did.

The processes note which lock classes they take while holding which, and in what context (:mod:`shm.lockdep`). The
rules are those of ``kernel/locking/lockdep.c``:

- the order graph has no cycle (*circular locking dependency*);
- a class that an interrupt takes is never taken with interrupts on (*inconsistent lock state*);
- no lock of a class that an interrupt takes is held while one is taken that is ever held with interrupts on, directly
  or through others (*irq lock inversion*);
- nobody takes a class twice (*recursive locking*) or gives back what it doesn't hold (*bad unlock balance*).
"""

from collections import deque
from dataclasses import dataclass

from emu.zone.init import party_of
from emu.zone.lock_class import LOCK_CLASS_NAMES
from emu.zone.locks import party_name
from emu.zone.mmzone import Machine
from shm.lockdep import FOREIGN_RELEASE, MAX_CLASSES, RECURSION, SPLATS, Lockdep, use_index
from shm.point import site_name
from shm.struct import address_of, record_at

__all__ = ["Dependency", "dependencies", "graph_of", "locking_faults"]

RULE = "=" * 54


@dataclass(frozen=True)
class Dependency:
    """``taken`` was taken while ``held`` was: where each of them, and by whom first."""

    held: int
    taken: int
    held_site: str
    site: str
    by: str

    def __str__(self) -> str:
        return f"{name_of(self.taken)} at {self.site}, holding {name_of(self.held)} from {self.held_site} ({self.by})"


def name_of(lock_class: int) -> str:
    """``&zone->lock``"""
    return LOCK_CLASS_NAMES.get(lock_class, f"class {lock_class}")


def graph_of(m: Machine) -> Lockdep | None:
    """The machine's graph; None where nobody checks."""
    at = party_of(m, 0).party.lockdep
    return record_at(Lockdep, address_of(m) + m.cpus + at) if at else None


def dependencies(m: Machine) -> list[Dependency]:
    """The order graph, without what was only tried for."""
    graph = graph_of(m)
    if graph is None:
        return []
    found = []
    for held in range(MAX_CLASSES):
        for taken in range(MAX_CLASSES):
            edge = graph.edges[held * MAX_CLASSES + taken]
            if edge.site and not edge.trylock:
                by = party_name(m, edge.party)
                found.append(Dependency(held, taken, site_name(edge.held_site), site_name(edge.site), by))
    return found


def locking_faults(m: Machine) -> list[str]:
    """Every broken rule as a report of several lines; empty when all hold, or when the mode isn't checked."""
    graph = graph_of(m)
    if graph is None:
        return []
    edges = dependencies(m)
    return [*_in_the_act(m, graph), *_cycles(edges), *_inconsistent(graph), *_inversions(graph, edges)]


def _report(title: str, *lines: str) -> str:
    return "\n".join((RULE, f"WARNING: {title}", "-" * len(RULE), *lines))


def _in_the_act(m: Machine, graph: Lockdep) -> list[str]:
    found = []
    for splat in graph.splats[: min(graph.splats_seen, SPLATS)]:
        who, lock, where = party_name(m, splat.party), name_of(splat.lock_class), site_name(splat.site)
        if splat.kind == RECURSION:
            text = _report(
                "possible recursive locking detected", f"{who} is trying to acquire lock:", f"  {lock} at {where}",
                "but task is already holding lock:", f"  {lock} from {site_name(splat.held_site)}",
            )  # fmt: skip
        elif splat.kind == FOREIGN_RELEASE:
            text = _report(
                "bad unlock balance detected!", f"{who} is trying to release lock {lock}", "but it does not hold it;",
                f"it last asked for a lock at {where}",
            )  # fmt: skip
        else:
            text = _report("BUG: MAX_LOCK_DEPTH too low!", f"{who} takes {lock} at {where} on top of all others")
        if text not in found:
            found.append(text)
    return found


def _path(edges: list[Dependency], start: int, goal: int) -> list[Dependency]:
    """The shortest chain from one class to another; empty: there is none."""
    by_held: dict[int, list[Dependency]] = {}
    for edge in edges:
        by_held.setdefault(edge.held, []).append(edge)
    came: dict[int, Dependency] = {}
    queue = deque([start])
    while queue:
        at = queue.popleft()
        for edge in by_held.get(at, ()):
            if edge.taken in came:
                continue
            came[edge.taken] = edge
            if edge.taken == goal:
                chain = [edge]
                while chain[0].held != start:
                    chain.insert(0, came[chain[0].held])
                return chain
            queue.append(edge.taken)
    return []


def _cycles(edges: list[Dependency]) -> list[str]:
    found, seen = [], set()
    for edge in edges:
        back = _path(edges, edge.taken, edge.held)
        classes = frozenset((edge.held, *(e.held for e in back)))
        if not back or classes in seen or edge.held == edge.taken:
            continue
        seen.add(classes)
        found.append(_report(
            "possible circular locking dependency detected", f"one path, {edge.by}:", f"  {edge}",
            f"the other, {back[0].by}:", *(f"  {e}" for e in back),
            f"Possible unsafe locking scenario: CPU0 holds {name_of(edge.held)} and waits for {name_of(edge.taken)}, "
            f"CPU1 the other way round",
        ))  # fmt: skip
    return found


def _use(graph: Lockdep, lock_class: int, *, in_irq: bool) -> str:
    """Where a class is taken in an interrupt, or with interrupts on; empty: never."""
    off = (False, True) if in_irq else (False,)
    for irqs_off in off:
        use = graph.uses[use_index(lock_class, in_irq, irqs_off)]
        if use.site:
            return site_name(use.site)
    return ""


def _inconsistent(graph: Lockdep) -> list[str]:
    found = []
    for lock_class in range(MAX_CLASSES):
        in_irq, irqs_on = _use(graph, lock_class, in_irq=True), _use(graph, lock_class, in_irq=False)
        if in_irq and irqs_on:
            lock = name_of(lock_class)
            found.append(_report(
                "inconsistent lock state", f"inconsistent {{HARDIRQ-ON-W}} -> {{IN-HARDIRQ-W}} usage of {lock}:",
                f"  taken with interrupts on at {irqs_on}", f"  taken in an interrupt at {in_irq}",
                "Possible unsafe locking scenario: <Interrupt> while the lock is held, and the CPU waits for itself",
            ))  # fmt: skip
    return found


def _inversions(graph: Lockdep, edges: list[Dependency]) -> list[str]:
    found = []
    for safe in range(MAX_CLASSES):
        in_irq = _use(graph, safe, in_irq=True)
        if not in_irq or _use(graph, safe, in_irq=False):  # what is inconsistent is told already
            continue
        for unsafe in range(MAX_CLASSES):
            irqs_on = _use(graph, unsafe, in_irq=False)
            chain = _path(edges, safe, unsafe) if irqs_on and unsafe != safe else []
            if chain:
                found.append(_report(
                    "HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
                    f"  {name_of(safe)} is taken in an interrupt at {in_irq}",
                    f"  {name_of(unsafe)} is held with interrupts on, from {irqs_on}",
                    "the dependency between them:", *(f"  {e}" for e in chain),
                ))  # fmt: skip
    return found
