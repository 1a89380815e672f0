"""The end of victims: the reaper, tasks that nobody runs, memory cgroups."""

import pytest

from emu.daemons import reaper_idle
from emu.mm.memcontrol import set_memcg_limit
from emu.reclaim.oom_exit import REAPED, reap_dead_task
from emu.reclaim.oom_reaper import oom_reaper_round
from emu.zone.event import KINDS
from emu.zone.gfp import GFP_KERNEL
from emu.zone.init_vm import reaper_party
from emu.zone.mm_types import MM_ANONPAGES, MMF_OOM_SKIP, MMF_OOM_VICTIM, MMF_UNSTABLE, VM_LOCKED, VM_WRITE
from emu.zone.sched import user_task
from tests.bench import one_zone
from tests.reclaim.oom import DIE, EXIT_TASK, KILL, MAP, TOUCH, Killer, charge_oom, killer

SMALL = {"min_free_kbytes": 512, "watermark_boost_factor": 0}


def anon(b: Killer, k: int) -> int:
    return int(b.mm(k).rss_stat[MM_ANONPAGES].counter)


def kinds(b: Killer) -> list[str]:
    return [KINDS[e["kind"]] for e in b.events(reaper_party(b.m))]


def test_reaper_takes_the_memory_when_time_is_up() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.reaper.trace = 1
        b.user(0).oom_reaper_expires = 1
        assert oom_reaper_round(b.m, b.reaper)
        b.reaper.trace = 0
        found = [name for name in kinds(b) if "reap" in name]
        assert found == ["wake_reaper", "start_task_reaping", "oom_reaped", "finish_task_reaping"]
        assert (anon(b, 0), b.user(0).alive, b.user(0).oom_victim) == (0, 1, 1)
        assert b.mm(0).mm_flags & (MMF_OOM_SKIP | MMF_UNSTABLE) == MMF_OOM_SKIP | MMF_UNSTABLE
        assert b.alloc() >= 0  # there is memory again
        assert b.user(0).oom_mm == 1
        assert DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert (b.user(0).alive, b.vm.oom_victims.counter, b.user(0).oom_mm) == (0, 0, 0)
        assert b.mm(0).mm_flags & ~(MMF_OOM_SKIP | MMF_UNSTABLE) == 0
        assert b.spawn(0, 10).alive == 1


def test_reaped_task_has_no_accesses_any_more() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.user(0).oom_reaper_expires = 1
        oom_reaper_round(b.m, b.reaper)
        b.user(0).fatal_signal = 0
        assert TOUCH(b.m, b.cpu(1), 1, 3, 1) & 2  # VM_FAULT_SIGBUS
        assert anon(b, 0) == 0
        b.user(0).fatal_signal = 1
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks


def test_report_of_the_reaper() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.user(0).oom_reaper_expires = 1
        oom_reaper_round(b.m, b.reaper)
        assert b.reports(reaper_party(b.m)) == [
            "oom_reaper: reaped process 2000 (hog), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
        ]
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks


def test_locked_memory_is_left_to_the_exit() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.spawn(0, 500)
        assert MAP(b.m, 1, 1024, 20, 0, VM_WRITE | VM_LOCKED, 0) == 0
        b.cpu().current = user_task(b.m, 0)
        for slot in range(1024, 1044):
            assert TOUCH(b.m, b.cpu(), 1, slot, 1) == 0
        b.cpu().current = b.m.tasks
        b.victim_that_runs(0)
        b.user(0).oom_reaper_expires = 1
        oom_reaper_round(b.m, b.reaper)
        assert anon(b, 0) == 20
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert anon(b, 0) == 0


def test_task_that_exits_in_time_is_not_reaped() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        assert b.user(0).oom_reaper_expires > 1
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert (b.user(0).oom_reaper_expires, b.user(0).oom_mm) == (0, 0)
        assert b.mm(0).mm_flags & MMF_OOM_VICTIM == 0
        b.m.stop = 1
        assert not oom_reaper_round(b.m, b.reaper)
        b.m.stop = 0
        assert b.spawn(0, 10).alive == 1


def test_exit_between_the_timer_and_the_reaper() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.user(0).oom_reaper_expires = 0  # the timer has fired: the task is on the list
        b.vm.oom_reaper_list[0], b.vm.oom_reaper_nr = 1, 1
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert b.user(0).oom_mm == 1  # its address space is kept for the reaper
        assert oom_reaper_round(b.m, b.reaper)
        assert (b.user(0).oom_mm, b.vm.oom_reaper_nr, anon(b, 0)) == (0, 0, 0)
        assert b.reports(reaper_party(b.m)) == []


def test_exit_while_the_timer_fires() -> None:
    """The timer had been taken when the exit looked for it: the reaper finds nothing to do, and lets go."""
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.user(0).oom_reaper_expires = 0
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert b.user(0).oom_mm == 1
        b.user(0).oom_reaper_expires = 1
        b.m.stop = 1
        assert not oom_reaper_round(b.m, b.reaper)
        b.m.stop = 0
        assert (b.user(0).oom_mm, b.vm.oom_reaper_nr) == (0, 0)
        assert b.spawn(0, 10).alive == 1


def test_reaper_is_idle_when_there_is_nothing_to_come() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.spawn(1, 50)
        assert reaper_idle(b.m)
        b.victim_that_runs()
        assert not reaper_idle(b.m)  # its timer runs
        b.user(0).oom_reaper_expires = 1
        assert oom_reaper_round(b.m, b.reaper)
        assert (b.user(0).alive, b.vm.oom_victims.counter) == (1, 1) and reaper_idle(b.m)
        b.cpu(1).current = b.m.tasks
        assert not reaper_idle(b.m)  # it exits here
        assert oom_reaper_round(b.m, b.reaper) and reaper_idle(b.m)
        KILL(b.m, 1)
        assert not reaper_idle(b.m)
        b.user(1).dying = 1
        b.cpu(1).current = user_task(b.m, 1)
        assert not reaper_idle(b.m)  # somebody is at it
        b.user(1).dying = 0
        assert reaper_idle(b.m)
        b.cpu(1).current = b.m.tasks
        assert oom_reaper_round(b.m, b.reaper)


def test_reaper_waits_for_the_exit_under_way_and_gives_up_after_ten_tries() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.victim_that_runs()
        b.user(0).dying = 1
        b.user(0).oom_reaper_expires = 1
        b.m.stop = 1  # one try instead of ten, 100 ms apart
        b.reaper.trace = 1
        oom_reaper_round(b.m, b.reaper)
        b.reaper.trace, b.m.stop, b.user(0).dying = 0, 0, 0
        assert "skip_task_reaping" in kinds(b)
        assert anon(b, 0) == 500 and b.mm(0).mm_flags & MMF_OOM_SKIP
        DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert b.user(0).oom_mm == 0


def test_exit_waits_for_the_reaper() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.spawn(0, 50)
        b.user(0).dying = REAPED
        b.m.stop = 1  # else it would wait for ever
        assert not EXIT_TASK(b.m, b.cpu(), 0)
        b.m.stop = b.user(0).dying = 0
        assert EXIT_TASK(b.m, b.cpu(), 0)
        assert not EXIT_TASK(b.m, b.cpu(), 0)


@pytest.mark.parametrize("where", ["nowhere", "here", "there"])
def test_killed_task_exits_where_it_runs_or_where_somebody_notices(where: str) -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.spawn(0, 50)
        assert not reap_dead_task(b.m, b.cpu(), 0)  # it lives
        assert KILL(b.m, 0)
        if where != "nowhere":
            b.cpu(int(where == "there")).current = user_task(b.m, 0)
        assert bool(reap_dead_task(b.m, b.cpu(), 0)) == (where == "nowhere")
        for cpu in (0, 1):
            b.cpu(cpu).current = b.m.tasks
        assert b.user(0).alive == int(where != "nowhere")
        assert bool(oom_reaper_round(b.m, b.reaper)) == (where != "nowhere")
        assert (b.user(0).alive, anon(b, 0)) == (0, 0)
        assert not KILL(b.m, 0)


def test_group_beyond_its_limit_loses_its_largest_task() -> None:
    with killer(one_zone(8192), min_free_kbytes=512) as b:
        b.spawn(0, 600)
        b.spawn(1, 100, memcg=1)
        b.spawn(2, 40, memcg=1)
        assert set_memcg_limit(b.m, b.cpu(), 1, 0, 160) == 0
        assert MAP(b.m, 3, 1024, 100, 0, VM_WRITE, 0) == 0
        b.cpu().current = user_task(b.m, 2)
        for slot in range(1024, 1060):
            assert TOUCH(b.m, b.cpu(), 3, slot, 1) == 0
        b.cpu().current = b.m.tasks
        assert [b.user(k).alive for k in range(3)] == [1, 0, 1]
        assert (b.m.memcgs[0].oom_kills, b.kills) == (1, 1)
        lines = b.reports()
        assert lines[1].startswith("memory: usage ")
        assert lines[-2].startswith("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
                                    "oom_memcg=/1,task_memcg=/1,task=user,pid=2001")  # fmt: skip
        assert lines[-1].startswith("Memory cgroup out of memory: Killed process 2001 (user) total-vm:400kB, ")


def test_large_charges_kill_nobody() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 20, memcg=1)
        b.m.memcgs[0].memory_max = 10
        assert charge_oom(b.m, b.cpu(), 1, GFP_KERNEL, 4) == 3  # OOM_SKIPPED
        assert charge_oom(b.m, b.cpu(), 1, GFP_KERNEL, 0) == 0  # OOM_SUCCESS
        assert b.user(0).alive == 0
        assert charge_oom(b.m, b.cpu(), 1, GFP_KERNEL, 0) == 0  # there is room
        b.m.memcgs[0].memory_max = 0
        b.m.memcgs[1].memory, b.m.memcgs[1].memory_max = 8, 8
        assert charge_oom(b.m, b.cpu(), 2, GFP_KERNEL, 0) == 1  # OOM_FAILED: nobody is in it
        assert b.vm.panicked == 0
        b.m.memcgs[1].memory = 0
