"""What memory says about the steps of a schedule: which operations begin and end, what a point is about to read, what
an actor that can't go on waits for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emu.race.area import SLOTS
from emu.race.ops import OPS
from emu.race.ops_pages import OP_IRET
from emu.race.players import Players
from emu.race.scenario import Op
from emu.race.words import waits_for
from emu.zone.gfp_names import gfp_names
from emu.zone.mmzone import MIGRATETYPE_NAMES, PageBlock
from emu.zone.pageblock import PB_MIGRATE
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.baton import SEAT_DONE, SEAT_READY, SEAT_SPINS, SEAT_WAITS_CHANGE
from shm.struct import address_of, record_at
from shm.waitqueue import NEVER

__all__ = ["Did", "Witness", "op_text"]

TASK, IRQ = 0, 1
NODE_DAEMONS = ("kswapd", "kcompactd")
READS = ("read", "reread", "test")
_PFN_OPS = frozenset({"alloc", "request", "pi_alloc", "compact"})  # the result is a pfn
_SILENT = frozenset({
    "free", "put",  # the result is what was in the slot
    "wakeup", "thresholds", "pressure", "kswapd_stop", "vmstat", "pagelist_fraction", "drain", "count", "run_as",
    "nothing", "cpuset_mems", "task_mems", "set_mempolicy",
})  # fmt: skip


@dataclass(frozen=True)
class Did:
    """An operation that a step began or, with ``ended``, brought to its end."""

    op: str
    ended: bool = False
    result: str = ""


def op_text(op: Op) -> str:
    """``alloc(slot=0, order=1, gfp=GFP_ATOMIC)``"""
    named = [
        f"{name}={gfp_names(value) if name == 'gfp' else value}"
        for (name, default), value in zip(op.kind.params, op.args, strict=True)
        if value != default or name == "slot"
    ]
    return f"{op.kind.name}({', '.join(named)})"


class Witness:
    """Looks at memory before and after each step of a schedule."""

    def __init__(self, players: Players) -> None:
        self.players, self.world = players, players.world
        self.area = players.world.area
        self.kinds = {kind.code: kind for kind in OPS.values()}
        self.next = [program.next for program in self.area.programs]
        self.done = [op.done for op in self.area.ops]
        self.running: dict[int, int] = {}  # actor -> number of its operation
        self.hand: dict[int, int] = {}  # actor -> the page that its operation is about

    def _op(self, number: int) -> Op | None:
        record = self.area.ops[number]
        kind = self.kinds.get(record.code)
        return Op(kind, tuple(record.args[: len(kind.params)])) if kind else None

    def _result(self, number: int, op: Op) -> str:
        result = int(self.area.ops[number].result)
        if op.kind.name in _PFN_OPS:
            return f"page {result}" if result >= 0 else "NULL"
        return "" if op.kind.name in _SILENT else str(result)

    def operations(self, actor: int, slots: list[int]) -> Iterator[Did]:
        """What the step that the actor has just made brought to its end, and what it began. ``slots``: before it."""
        if actor >> 4 not in (TASK, IRQ):
            return
        program = self.area.programs[actor]
        fresh = range(program.first + self.next[actor], program.first + program.next)
        self.next[actor] = program.next
        for number in [*([self.running[actor]] if actor in self.running else []), *fresh]:
            op = self._op(number)
            if op is None or op.kind.code == OP_IRET:
                continue
            if number in fresh:
                yield Did(op_text(op))
                self.running[actor] = number
                self._take(actor, op, slots)
            if self.area.ops[number].done != self.done[number]:
                self.done[number] = self.area.ops[number].done
                self.running.pop(actor, None)
                yield Did(op_text(op), True, self._result(number, op))

    def _take(self, actor: int, op: Op, slots: list[int]) -> None:
        """Which page the operation is about: that of its slot, as it was before the step that began it; if that had
        nothing, the one that the operation before has just put there."""
        name = op.kind.params[0][0] if op.kind.params else ""
        if name in ("slot", "pointer") and op.kind.name not in _PFN_OPS and slots[op.args[0] % SLOTS]:
            self.hand[actor] = slots[op.args[0] % SLOTS] - 1

    def slots(self) -> list[int]:
        """The scenario's slots as they are."""
        return list(self.area.slots)

    # --- values -------------------------------------------------------------------------------------------------------

    def value(self, actor: int, name: str, point: str) -> str:
        """What a point named ``f:read x`` is about to read, or what is there before ``f:write x``; empty if x isn't
        known."""
        words = point.partition(":")[2].split()
        if len(words) != 2 or words[0] not in (*READS, "write"):
            return ""
        wanted = words[1]
        if wanted in ("migratetype", "refcount"):
            return self._of_page(self.hand.get(actor, -1), wanted)
        world, nid = self.world, self._node(actor, name)
        if nid < 0:
            return ""
        zone = world.zone(nid)
        if wanted == "watermark":
            return f"min {zone.watermark[0]}, free {zone.vm_stat[NR_FREE_PAGES].counter}"
        if wanted.startswith("pcp."):
            own = actor & 15 < world.m.nr_cpus and not point.startswith(("drain_all_pages", "pageset_update"))
            return _number(world.pageset(actor & 15, nid), wanted.removeprefix("pcp.")) if own else ""
        for of in (world.node(nid), zone, world.vm(), world.m):
            if found := _number(of, wanted):
                return found
        return ""

    def _of_page(self, pfn: int, what: str) -> str:
        if not 0 <= pfn < self.world.m.max_pfn:
            return ""
        if what == "refcount":
            return f"{self.world.page(pfn).refcount} (page {pfn})"
        bits = record_at(PageBlock, address_of(self.world.m) + self.world.m.pageblocks + (pfn >> 9)).bits
        return f"{MIGRATETYPE_NAMES[bits & PB_MIGRATE]} (page {pfn})"

    def _node(self, actor: int, name: str) -> int:
        """The node that an actor works on, where that is certain."""
        if name.startswith(NODE_DAEMONS):
            return int(name.lstrip("kswapdcomt"))
        return 0 if self.world.m.nr_nodes == 1 else -1

    # --- standing -----------------------------------------------------------------------------------------------------

    def stands(self, actor: int, enabled: int) -> str:
        """What keeps an actor from going on: ``end``, ``waits for ...``, ``sleeps on ...``; empty if nothing does."""
        if enabled >> actor & 1:
            return ""
        seat = self.players.baton.seats[actor & 15]
        if seat.context != actor >> 4 or seat.state == SEAT_DONE:
            return "end"
        if seat.state == SEAT_READY:  # the schedule is over
            return ""
        if seat.state == SEAT_SPINS and seat.loop:
            return "finds everything as it was"
        what = waits_for(self.players, seat)
        queue = what.removesuffix(": no wake-up")
        if seat.state == SEAT_WAITS_CHANGE and 0 <= seat.deadline < NEVER:
            at_most = f"{(seat.deadline - self.players.baton.clock_ns) / 1e6:g} ms"
            return f"sleeps for {at_most}" if queue == what else f"sleeps on {queue}, for {at_most} at most"
        return f"waits for {what}" if queue == what else f"sleeps on {queue}"


def _number(of: Any, name: str) -> str:
    value = getattr(of, name, None)
    return str(value) if isinstance(value, int) else ""
