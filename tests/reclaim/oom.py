"""Tasks with memory, and the OOM killer's functions, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emu.cpu.page_alloc import prepare_alloc_pages
from emu.cpu.seams import __alloc_pages_may_oom
from emu.mm import memory, mmap
from emu.mm.memcontrol import set_memcg_limit
from emu.mm.mmap import mm_create
from emu.mm.seams import mem_cgroup_oom
from emu.reclaim import oom_control, oom_exit, oom_kill
from emu.reclaim import oom_memcg as _oom_memcg  # noqa: F401
from emu.reclaim.ctl import CTL_ENTRIES
from emu.reclaim.oom_control import OomControl, constrained_alloc, select_bad_process
from emu.reclaim.oom_exit import reap_dead_task
from emu.reclaim.oom_reaper import oom_reaper_round
from emu.zone.alloc_context import AllocContext
from emu.zone.boot import Shape
from emu.zone.event import REPORTS
from emu.zone.gfp import __GFP_NOWARN, GFP_KERNEL
from emu.zone.init_vm import reaper_party
from emu.zone.mm_types import COMMS, MM_SIZE, VM_WRITE, Mm, Vm
from emu.zone.mmzone import Cpu, Machine
from emu.zone.report import render
from emu.zone.sched import TASK_SIZE, Task, user_task
from emu.zone.vmstat_items import OOM_KILL
from shm.core import OnStack, entry
from shm.struct import At, record_at
from tests.bench import Bench, _published, bench

control_at = At(OomControl)
on_stack = OnStack(OomControl)


@entry
def evaluate(m: Machine, cpu: Cpu, memcg: int, nodemask: int, totalpages: int) -> int:
    """``select_bad_process()``: the number of the task in the table, 0 for none, -1 where it broke off."""
    oc = on_stack()
    oc.memcg = memcg
    oc.nodemask = nodemask
    oc.totalpages = totalpages
    select_bad_process(m, cpu, oc)
    return oc.chosen if oc.chosen <= 0 else (oc.chosen - m.tasks) // TASK_SIZE


@entry
def constrain(m: Machine, cpu: Cpu, zonelist: int, nodemask: int, memcg: int, gfp: int) -> int:
    """``constrained_alloc()``: the constraint and, from bit 8 on, totalpages."""
    oc = on_stack()
    oc.zonelist = zonelist
    oc.nodemask = nodemask
    oc.memcg = memcg
    oc.gfp_mask = gfp
    constraint = constrained_alloc(m, cpu, oc)
    return constraint | oc.totalpages << 8


@entry
def may_oom(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``__alloc_pages_may_oom()``: a pfn, -2 without and -3 with progress."""
    ac = context()
    prepare_alloc_pages(m, cpu, gfp, order, cpu.node, 0, ac)
    ac.nodemask_kind = 0
    pfn = MAY_OOM(m, cpu, gfp, order, ac)
    return pfn if pfn >= 0 else -2 - ac.did_some_progress


@entry
def charge_oom(m: Machine, cpu: Cpu, memcg: int, gfp: int, order: int) -> int:
    """``mem_cgroup_oom()``: OOM_*."""
    return mem_cgroup_oom(m, cpu, memcg, gfp, order)


MAY_OOM = __alloc_pages_may_oom
context = OnStack(AllocContext)
BADNESS = _published(oom_control.oom_badness)
MAP = _published(mmap.mmap)
TOUCH = _published(memory.touch)
EXIT_TASK = _published(oom_exit.exit_task)
DIE = _published(oom_exit.die_if_killed)
KILL = _published(oom_exit.kill_task)
WILL_FREE = _published(oom_kill.task_will_free_mem)
ENTRIES = [may_oom, charge_oom, evaluate, constrain, BADNESS, MAP, TOUCH, EXIT_TASK, DIE, KILL, WILL_FREE, mm_create,
           reap_dead_task, oom_reaper_round, set_memcg_limit, *CTL_ENTRIES]  # fmt: skip


QUIET = GFP_KERNEL | __GFP_NOWARN  # outside the class, which would mangle the name


class Killer(Bench):
    """A bench with an OOM killer and tasks."""

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.base + self.m.vm)

    @property
    def reaper(self) -> Cpu:
        return self.cpu(reaper_party(self.m))

    @property
    def kills(self) -> int:
        """How many victims there were."""
        return sum(int(self.cpu(i).vm_events[OOM_KILL]) for i in range(self.m.nr_parties))

    def user(self, k: int) -> Task:
        return record_at(Task, self.base + user_task(self.m, k))

    def mm(self, k: int) -> Mm:
        return record_at(Mm, self.base + self.vm.mms + k * MM_SIZE)

    def spawn(self, k: int, pages: int = 0, memcg: int = 0, comm: str = "user") -> Task:
        """A task whose address space has so many anonymous pages, from slot 0 on."""
        assert mm_create(self.m, self.cpu(), k, memcg) == k + 1
        self.user(k).comm = COMMS.index(comm)
        if pages:
            assert MAP(self.m, k + 1, 0, pages, 0, VM_WRITE, 0) == 0
            before, self.cpu().current = self.cpu().current, user_task(self.m, k)
            for slot in range(pages):
                assert TOUCH(self.m, self.cpu(), k + 1, slot, 1) == 0
            self.cpu().current = before
        return self.user(k)

    def number(self, k: int) -> int:
        """The task's place in the table."""
        return (user_task(self.m, k) - self.m.tasks) // TASK_SIZE

    def reports(self, cpu: int = 0) -> list[str]:
        """The lines of all reports in a CPU's ring."""
        kinds = REPORTS
        texts = [render(event, self.m) for event in self.events(cpu) if event["kind"] in kinds]
        return "".join(texts).splitlines()

    def hog(self, gfp: int = GFP_KERNEL, order: int = 0, cpu: int = 0) -> int:
        """Allocate until one fails or somebody is killed; how many pages that were."""
        taken = 0
        kills = self.kills
        while self.alloc(order, gfp, cpu) >= 0:
            taken += 1
            if self.kills != kills:
                break
        return taken

    def victim_that_runs(self, pages: int = 500, k: int = 0) -> None:
        """A task is chosen, and CPU 1 runs it, who doesn't look at its signals."""
        if not self.user(k).alive:
            self.spawn(k, pages, comm="hog")
        self.cpu().current = user_task(self.m, k)
        self.vm.oom_kill_allocating_task = 1
        while self.alloc(0, QUIET) >= 0:
            pass  # down to what a victim may have of the reserves
        self.vm.oom_kill_allocating_task = 0
        self.cpu().current = self.m.tasks
        self.cpu(1).current = user_task(self.m, k)
        self.events()
        assert self.user(k).oom_victim == 1


@contextmanager
def killer(of: Shape | None = None, **tuning: Any) -> Iterator[Killer]:
    """Boot a machine with an OOM killer."""
    with bench(of, oom=True, **tuning) as made:
        made.__class__ = Killer
        made.vm.oom_rs.interval_ns = made.vm.nopage_rs.interval_ns = 0  # type: ignore[attr-defined]
        yield made  # type: ignore[misc]


__all__ = [
    "BADNESS", "DIE", "EXIT_TASK", "KILL", "MAP", "TOUCH", "WILL_FREE", "Killer", "charge_oom", "constrain", "evaluate",
    "killer", "may_oom",
]  # fmt: skip
