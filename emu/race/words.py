"""Addresses of shared memory in words: ``zone Normal.lock``, ``node0.kswapd_wait``, ``page 12.refcount``."""

from typing import TYPE_CHECKING, Any, cast

from emu.race.area import RaceArea
from emu.zone.mm_types import Vm
from emu.zone.mmzone import (
    CPU_SIZE,
    MAX_NR_ZONES,
    NODESTAT_SIZE,
    PAGE_SIZE_OF,
    PAGESET_SIZE,
    ZONE_NAMES,
    Cpu,
    Machine,
    NodeStat,
    Page,
    Pageset,
)  # fmt: skip
from emu.zone.sched import TASK_SIZE, Task
from shm.baton import S_SPIN, SEAT_SPINS, SEAT_WAITS_CLEAR, Seat
from shm.point import site_name
from shm.spinlock_types import Spinlock, holder_of
from shm.struct import Struct, address_of, record_at, size_of

if TYPE_CHECKING:
    from emu.race.players import Players

__all__ = ["field_at", "party_name", "place_of", "waits_for"]


def _inside(cls: Any, at: int, name: str) -> tuple[str, Any, int]:
    """The innermost field of a struct at a byte offset: its name, ctype and the offset in it."""
    while True:
        for field, ctype in cast(Any, cls)._fields_:
            start = getattr(cls, field).offset
            size = getattr(cls, field).size
            if start <= at < start + size:
                at -= start
                name += f".{field}"
                if hasattr(ctype, "_length_"):
                    each = size // ctype._length_
                    name += f"[{at // each}]"
                    at %= each
                    ctype = ctype._type_
                if isinstance(ctype, type) and issubclass(ctype, Struct):
                    cls = ctype
                    break
                return name, ctype, at
        else:
            return name, None, at


def place_of(m: Machine, offset: int) -> tuple[str, Any, int]:
    """What lies at an offset of the machine: a name, the field's ctype, and the offset inside the field."""
    node_at = Machine.nodes.offset  # type: ignore[attr-defined]
    tables: list[tuple[int, int, int, Any, str]] = [
        (m.cpus, CPU_SIZE, m.nr_parties, Cpu, "cpu"),
        (m.tasks, TASK_SIZE, m.nr_tasks, Task, "task"),
        (m.pagesets, PAGESET_SIZE, m.nr_nodes * MAX_NR_ZONES * m.nr_parties, Pageset, "pageset"),
        (m.nodestats, NODESTAT_SIZE, m.nr_nodes * m.nr_parties, NodeStat, "nodestat"),
        (m.mem_map, PAGE_SIZE_OF, m.max_pfn, Page, "page"),
        (m.vm, size_of(Vm), 1, Vm, "vm"),
        (m.script, size_of(RaceArea), 1, RaceArea, "scenario"),
    ]
    for start, size, count, cls, name in tables:
        if start <= offset < start + size * count:
            i, at = divmod(offset - start, size)
            return _inside(cls, at, _name(m, name, i))
    if m.pageblocks <= offset < m.pageblocks + (m.max_pfn >> 9):
        return f"pageblock {offset - m.pageblocks}", None, 0
    name, ctype, at = _inside(Machine, offset, "m")
    if offset >= node_at and name.startswith("m.nodes["):
        name = "node" + name[len("m.nodes[") :].replace("]", "", 1)
        for zid, zone in enumerate(ZONE_NAMES):
            name = name.replace(f".node_zones[{zid}]", f" {zone}")
    return name, ctype, at


def party_name(m: Machine, i: int) -> str:
    """A CPU, or a daemon: each has per-CPU areas of its own."""
    if i < m.nr_cpus:
        return f"cpu{i}"
    daemon, nodes = i - m.nr_cpus, m.nr_nodes
    if daemon < 2 * nodes:
        return f"{('kswapd', 'kcompactd')[daemon // nodes]}{daemon % nodes}"
    return ("disk", "flusher", "oom_reaper", "extra")[min(daemon - 2 * nodes, 3)]


def _name(m: Machine, kind: str, i: int) -> str:
    if kind == "pageset":
        zone, party = divmod(i, m.nr_parties)
        return f"pcp of {party_name(m, party)}, node{zone // MAX_NR_ZONES} {ZONE_NAMES[zone % MAX_NR_ZONES]}"
    if kind == "nodestat":
        node, party = divmod(i, m.nr_parties)
        return f"counters of {party_name(m, party)}, node{node}"
    if kind == "cpu":
        return party_name(m, i)
    return {"vm": "vm", "scenario": "scenario", "page": f"page {i}"}.get(kind, f"{kind}{i}")


def field_at(m: Machine, offset: int) -> str:
    """The name alone."""
    return place_of(m, offset)[0]


def waits_for(players: "Players", seat: Seat) -> str:
    """What a seat that can't go on waits for."""
    from emu.race.schedule import actor_name

    m = players.world.m
    if seat.state == SEAT_SPINS:
        return f"what nobody changes: it spins after {site_name(_last_point(players, seat))}"
    offset = seat.word - address_of(m)
    name, _, _ = place_of(m, offset)
    if seat.state == SEAT_WAITS_CLEAR:
        lock = record_at(Spinlock, seat.word)
        holder = holder_of(lock) - 1
        return f"{name.removesuffix('.word')}, held by {actor_name(players.scenario, holder) if holder >= 0 else '-'}"
    queue = name.rpartition(".")[0] if name.endswith(".state") else ""
    return f"{queue}: no wake-up" if queue else f"{name} to change"


def _last_point(players: "Players", seat: Seat) -> int:
    """The last point that a seat's actor has gone on from, but for looking again at what it spins for."""
    b, actor = players.baton, seat.index + 16 * seat.context
    for step in reversed(b.log[: b.steps]):
        if step.actor == actor and step.site != S_SPIN:
            return int(step.site)
    return S_SPIN
