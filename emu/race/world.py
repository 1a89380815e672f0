"""The machine of a scenario: booted, set up, its programs written into its memory."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from emu.race.area import AREA_SIZE, MAX_OPS, SLOTS, RaceArea, area_at, race_area
from emu.race.ops import run_op
from emu.race.ops_pages import iret
from emu.race.limits import Limits
from emu.race.scenario import Op, Scenario, ScenarioError
from emu.zone import deviations
from emu.zone.board import Board
from emu.zone.init import party_of, zones_of
from emu.zone.init_vm import disk_party, flusher_party, kcompactd_party, kswapd_party, reaper_party, vm_of
from emu.zone.mm_types import Vm
from emu.zone.mmzone import Cpu, Machine, Node, Page, Pageset, Zone
from emu.zone.page import pfn_to_page
from emu.zone.sched import Task
from shm.core import as_entries, entry
from shm.struct import address_of, record_at

__all__ = ["WORLD_ENTRIES", "World", "deviations_of", "do_op"]

IRQ = 16  # actor number of cpu0's interrupts


@entry
def do_op(m: Machine, cpu: Cpu, index: int) -> None:
    """One operation outside a schedule, by its place in the area."""
    a = area_at(m, race_area(m))
    run_op(m, cpu, a, a.ops[index])


def deviations_of(scenario: Scenario, unfixed: bool) -> int:
    """``Machine.deviations`` for the variant that has the race, or that hasn't."""
    # the bit of a race that is fixed in 5.10.262 takes the fix out; of one that is open, it puts it in
    has_race_when_clear = scenario.status == "open"
    return _own_bit(scenario) if unfixed != has_race_when_clear else 0


def _own_bit(scenario: Scenario) -> int:
    return 1 << deviations.RACES.index(scenario.switch) if scenario.switch else 0


WORLD_ENTRIES = as_entries(do_op)


class World:
    """A board and what a scenario's ``setup`` may do with it. Use as a context manager."""

    def __init__(self, scenario: Scenario, unfixed: bool = True) -> None:
        self.scenario = scenario
        self.board = Board.boot(
            scenario.shape, scenario.tuning, ring_capacity=256 if scenario.trace else 64, script_size=AREA_SIZE
        )
        try:
            self.m = self.board.m
            # others that the scenario's tuning asks for stay as boot has put them
            self.m.deviations = self.m.deviations & ~_own_bit(scenario) | deviations_of(scenario, unfixed)
            self.area = record_at(RaceArea, address_of(self.m) + self.m.script)
            self.limits = Limits(self.m)
            vm_of(self.m).boot_ns = 0
            self._write_programs()
            self._set_up()
            for op in self.area.ops:
                op.done, op.result = 0, 0
            for i in range(self.m.nr_parties):
                self.cpu(i).trace = int(scenario.trace)
        except BaseException:
            self.board.close()
            raise

    def _set_up(self) -> None:
        """What is so before the first schedule. An error in it is the scenario's."""
        if self.scenario.setup is None:
            return
        try:
            self.scenario.setup(self)
        except ScenarioError:
            raise
        except Exception as err:
            frames = traceback.extract_tb(err.__traceback__)
            theirs = [frame for frame in frames if frame.filename == frames[1].filename] if len(frames) > 1 else frames
            where = f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}"
            raise ScenarioError(f"{self.scenario.id}: setup: {where}: {type(err).__name__}: {err}") from err

    def _write_programs(self) -> None:
        at = 0
        scenario = self.scenario
        irqs = {name: [op for one in ops for op in (*one, iret())] for name, ops in scenario.irqs.items()}
        for actor, ops in [
            *((self.actor(name), list(ops)) for name, ops in scenario.programs.items()),
            *((self.actor(name) + IRQ, ops) for name, ops in irqs.items()),
        ]:
            if at + len(ops) >= MAX_OPS:
                raise ScenarioError(f"{scenario.id}: {at + len(ops)} operations, {MAX_OPS - 1} is the most")
            self.limits.check(scenario.id, ops)
            program = self.area.programs[actor]
            program.first, program.count, program.next = at, len(ops), 0
            for op in ops:
                record = self.area.ops[at]
                record.code, record.actor = op.kind.code, actor
                record.args[: len(op.args)] = op.args  # type: ignore[index]
                at += 1

    def actor(self, name: str) -> int:
        """The number of an actor, which is that of its party: CPUs first, then kswapd and kcompactd of each node."""
        kind = name.rstrip("0123456789")
        number = int(name[len(kind) :] or -1)
        cpus, nodes = len(self.scenario.shape.cpu_node), self.scenario.shape.nodes
        if kind == "cpu" and 0 <= number < cpus:
            return number
        if kind == "kswapd" and 0 <= number < nodes:
            return kswapd_party(self.m, number)
        if kind == "kcompactd" and 0 <= number < nodes:
            return kcompactd_party(self.m, number)
        if name in ("disk", "flusher", "oom_reaper"):
            return int({"disk": disk_party, "flusher": flusher_party, "oom_reaper": reaper_party}[name](self.m))
        raise ScenarioError(f"{self.scenario.id}: no actor {name!r} on a machine of {cpus} CPUs and {nodes} nodes")

    # --- for setups ---------------------------------------------------------------------------------------------------

    def cpu(self, index: int = 0) -> Cpu:
        """``struct Cpu`` of a CPU or daemon."""
        return party_of(self.m, index)

    def node(self, nid: int = 0) -> Node:
        """``pg_data_t``"""
        return self.m.nodes[nid]

    def zone(self, nid: int = 0) -> Zone:
        """The node's first populated zone."""
        return next(zone for zone in zones_of(self.m) if zone.node == nid)

    def vm(self) -> Vm:
        """``struct Vm``"""
        return vm_of(self.m)

    def task(self, cpu: int = 0) -> Task:
        """The task that runs on a CPU."""
        return self.board.task(cpu)

    def pageset(self, cpu: int = 0, nid: int = 0) -> Pageset:
        """A CPU's pageset of a node's zone."""
        return record_at(Pageset, address_of(self.m) + self.zone(nid).pageset + self.cpu(cpu).pageset_offset)

    def page(self, pfn: int) -> Page:
        """``struct page``"""
        return record_at(Page, address_of(self.m) + pfn_to_page(self.m, pfn))

    def pcp(self, batch: int, high: int) -> None:
        """Sizes of all pcp lists: a zone this small has none by itself."""
        for zone in zones_of(self.m):
            for i in range(self.m.nr_parties):
                at = address_of(self.m) + zone.pageset + self.cpu(i).pageset_offset
                pset = record_at(Pageset, at)
                pset.batch, pset.high = batch, high

    def run(self, op: Op, cpu: int = 0) -> int:
        """Do an operation now. Returns its result."""
        self.limits.check(self.scenario.id, [op])
        spare = self.area.ops[MAX_OPS - 1]
        spare.code, spare.actor = op.kind.code, cpu
        for i, value in enumerate(op.args):
            spare.args[i] = value
        do_op(self.m, self.cpu(cpu), MAX_OPS - 1)
        return int(spare.result)

    def run_all(self, ops: Sequence[Op], cpu: int = 0) -> list[int]:
        """Several of them."""
        return [self.run(op, cpu) for op in ops]

    def slot(self, index: int) -> int:
        """The pfn in a slot, or -1."""
        return self.area.slots[index % SLOTS] - 1

    def close(self) -> None:
        """Remove the machine."""
        self.board.close()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
