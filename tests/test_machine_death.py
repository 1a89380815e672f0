"""What the end of a process means for a machine: it is stopped, and says why, or it goes on without that CPU."""

import os
import signal
from collections.abc import Callable

import pytest

from emu.config import make_config
from emu.cpu.irq import net_stop
from emu.machine import Machine, MachineError
from emu.run import WorkloadRun
from emu.salvage import salvage
from emu.zone.gfp import PF_MEMALLOC
from emu.zone.init_vm import vm_of
from emu.zone.validate import validate
from shm.point import site

pytestmark = pytest.mark.compiled

LEFT = site("test_machine_death:left")


def machine(cpus: int = 3, on_death: str = "offline") -> Machine:
    return Machine(make_config({"cpus": cpus, "memory": "64M", "on_death": on_death, "pin": False}, "test"))


def kill(m: Machine, name: str) -> None:
    """SIGKILL, and wait until the process is a zombie: what it left doesn't change any more."""
    pid = next(child.pid for child in m.children if child.name == name)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def goes_offline(m: Machine, index: int) -> None:
    m.wait_for(lambda: not any(child.index == index for child in m.children))


def test_an_idle_cpu_that_is_killed_goes_offline_and_the_others_go_on() -> None:
    with machine() as m:
        pages = [m.alloc_pages(cpu=1) for _ in range(4)]
        m.free_pages(cpu=1, pfn=pages.pop())
        kill(m, "cpu1")
        goes_offline(m, 1)
        assert (m.m.nr_online_cpus, m.board.cpu(1).online) == (2, 0)
        assert str(m.deaths[0][1]).endswith("was killed by SIGKILL, holding no lock, irqs on")
        for pfn in pages:  # what it had given out is still in use, and any CPU may free it
            m.free_pages(cpu=2, pfn=pfn)
        m.free_pages(cpu=0, pfn=m.alloc_pages(cpu=0, order=2), order=2)
        m.settle()
        assert validate(m.m, from_boot=True) == []


def test_a_cpu_that_went_offline_comes_back() -> None:
    with machine() as m:
        kill(m, "cpu1")
        goes_offline(m, 1)
        with pytest.raises(MachineError, match="cpu1 is offline"):
            m.alloc_pages(cpu=1)
        m.online_cpu(1)
        assert m.m.nr_online_cpus == 3
        m.free_pages(cpu=1, pfn=m.alloc_pages(cpu=1))
        with pytest.raises(MachineError, match="cpu1 is not offline"):
            m.online_cpu(1)
        kill(m, "cpu1")  # and it may die again
        goes_offline(m, 1)
        m.settle()
        assert validate(m.m, from_boot=True) == []


def test_a_cpu_is_taken_offline_in_order() -> None:
    with machine(cpus=2, on_death="stop") as m:
        m.free_pages(cpu=1, pfn=m.alloc_pages(cpu=1))
        m.offline_cpu(1)
        assert m.deaths[0][1].how == "ended with status 0"
        with pytest.raises(MachineError, match="cpu0 is the last CPU"):
            m.offline_cpu(0)
        with pytest.raises(MachineError, match="cpu1 is not online"):
            m.offline_cpu(1)
        m.online_cpu(1)
        m.free_pages(cpu=1, pfn=m.alloc_pages(cpu=1))
        assert validate(m.m, from_boot=True) == []


def leave(name: str, value: int) -> Callable[[Machine], None]:
    def of_cpu(m: Machine) -> None:
        setattr(m.board.cpu(1), name, value)

    return of_cpu


def leave_lock(m: Machine) -> None:
    lock = m.m.nodes[0].node_zones[1].lock
    lock.word, lock.site = 2, LEFT


def leave_unsigned_lock(m: Machine) -> None:
    m.m.nodes[0].node_zones[1].lock.word = 2  # taken, and killed before it could say where
    m.board.cpu(1).party.lock_site = LEFT


def leave_irqs_off(m: Machine) -> None:
    m.board.cpu(1).party.irqs_off = 1


def leave_interrupt(m: Machine) -> None:
    m.board.cpu(1).party.context = 1


def leave_reclaim(m: Machine) -> None:
    m.board.task(1).process_flags |= PF_MEMALLOC


def leave_drain(m: Machine) -> None:
    m.m.drain_busy = 2


def leave_oom(m: Machine) -> None:
    vm_of(m.m).oom_lock = 2


def leave_section(m: Machine) -> None:
    m.board.cpu(1).critical, m.board.cpu(1).critical_site = 1, LEFT


def leave_command(m: Machine) -> None:
    m.board.cpu(1).command_code = 77
    m.board.cpu(1).command += 1


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (leave_lock, "holding zone->lock of node 0 DMA32, taken at test_machine_death:left, irqs on"),
        (leave_unsigned_lock, "holding zone->lock of node 0 DMA32, taken at test_machine_death:left"),
        (leave_irqs_off, "holding no lock, irqs off"),
        (leave_interrupt, "irqs on, in an interrupt"),
        (leave_reclaim, "irqs on, reclaiming or compacting"),
        (leave("capture", 64), "irqs on, reclaiming or compacting"),
        (leave_drain, "holding pcpu_drain_mutex, irqs on"),
        (leave_oom, "holding oom_lock, irqs on"),
        (leave_section, "irqs on, inside test_machine_death:left"),
    ],
)
def test_a_machine_is_stopped_when_something_was_half_done(left: Callable[[Machine], None], says: str) -> None:
    with machine() as m:
        path = m.board.segment.path
        pid = m.children[1].pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        left(m)
        kill(m, "cpu1")
        with pytest.raises(MachineError, match=says):
            goes_offline(m, 1)
        assert m.deaths[0][1].fatal
    assert not path.exists()


def test_a_cpu_that_others_count_on_is_not_given_up() -> None:
    with machine() as m:
        pid = m.children[1].pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        leave_command(m)
        kill(m, "cpu1")
        with pytest.raises(MachineError, match="cpu1"):
            goes_offline(m, 1)
        assert m.deaths[0][1].reasons == ("others count on its command 77",)


def test_by_default_any_death_stops_the_machine() -> None:
    with machine(on_death="stop") as m:
        kill(m, "cpu1")
        with pytest.raises(MachineError, match="holding no lock, irqs on"):
            m.wait_for(lambda: False)
        assert not m.deaths[0][1].fatal


def test_a_daemon_has_no_substitute() -> None:
    with machine() as m:
        kill(m, "kswapd0")
        with pytest.raises(MachineError, match="kswapd0 .* was killed by SIGKILL"):
            m.wait_for(lambda: False)


def test_the_last_cpu_stops_the_machine() -> None:
    with machine(cpus=2) as m:
        kill(m, "cpu0")
        goes_offline(m, 0)
        kill(m, "cpu1")
        with pytest.raises(MachineError, match="cpu1 .* was killed by SIGKILL"):
            m.wait_for(lambda: False)


def test_two_cpus_that_die_together_are_both_taken_down() -> None:
    with machine() as m:
        for cpu in (1, 2):
            m.free_pages(cpu=cpu, pfn=m.alloc_pages(cpu=cpu))
        kill(m, "cpu1")
        kill(m, "cpu2")
        goes_offline(m, 1)
        goes_offline(m, 2)
        assert m.m.nr_online_cpus == 1
        assert validate(m.m, from_boot=True) == []


@pytest.mark.parametrize("workload", ["bulk", "mixed", "pagefault"])
def test_a_workload_goes_on_without_a_cpu_and_frees_what_it_held(workload: str) -> None:
    """It ends between two slices, so that nothing is in flight; its pages are freed by the others."""
    config = make_config(
        {"cpus": 3, "memory": "64M", "workload": workload, "operations": 600_000, "on_death": "offline", "pin": False},
        "test",
    )
    asked: list[int] = []

    with WorkloadRun(config) as work:
        m = work.machine

        def ask() -> None:
            if not asked and work.runs()[1].held > 100:
                asked.append(1)
                m.hotplug.ask_to_leave(1)

        report = work.run(tick=ask)
        assert asked and len(report.deaths) == 1 and report.in_flight == 0
        assert report.per_cpu[1] < 600_000 <= report.per_cpu[0]
        for i in (0, 2):
            net_stop(m.m, m.board.cpu(i))
        m.settle()
        assert validate(m.m, from_boot=True) == []
        assert m.m.nr_online_cpus == 2


def test_pages_in_flight_are_found_and_given_back() -> None:
    with machine() as m:
        kept, lost = m.alloc_pages(cpu=1, order=1), [m.alloc_pages(cpu=1), m.alloc_pages(cpu=1)]
        kill(m, "cpu1")
        goes_offline(m, 1)
        assert salvage(m, [kept], [1]) == len(lost)
        assert salvage(m, [kept], [1]) == 0
        m.free_pages(cpu=0, pfn=kept, order=1)
        assert validate(m.m, from_boot=True) == []


def test_an_interrupt_for_a_cpu_that_is_offline_is_lost() -> None:
    with machine() as m:
        m.offline_cpu(2)
        m.interrupt(2, 1)
        assert m.board.cpu(2).irq_pending == 0
