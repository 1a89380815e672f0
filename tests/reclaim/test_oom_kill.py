"""Out of memory: one task dies, its memory comes back, and the report says so in the kernel's words."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from emu.zone.event import EV_OOM_KILLED, EV_OOM_SUMMARY, EV_OOM_TASK, Event
from emu.zone.gfp import (
    __GFP_DMA32,
    __GFP_NOFAIL,
    __GFP_NOMEMALLOC,
    __GFP_NOWARN,
    __GFP_RETRY_MAYFAIL,
    __GFP_THISNODE,
    GFP_KERNEL,
    GFP_NOFS,
    GFP_USER,
)  # fmt: skip
from emu.zone.mm_types import COMMS, MM_ANONPAGES, MMF_OOM_SKIP
from emu.zone.mmzone import ZONE_NORMAL
from emu.zone.report import render
from emu.zone.sched import PF_DUMPCORE, RETRY_OOM, user_task
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.struct import dtype_of
from tests.bench import one_zone, shape, two_zones
from tests.reclaim.oom import DIE, EXIT_TASK, KILL, Killer, killer, may_oom

DMESG = Path(__file__).parents[1] / "cases" / "slow" / "oom_kill" / "dmesg.txt.gz"
SMALL = {"min_free_kbytes": 512, "watermark_boost_factor": 0}


def anon(b: Killer, k: int) -> int:
    return int(b.mm(k).rss_stat[MM_ANONPAGES].counter)


def test_largest_task_dies_and_the_request_goes_on() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 100)
        b.spawn(1, 700, comm="hog")
        b.spawn(2, 300)
        assert b.hog() > 2000
        assert [b.user(k).alive for k in range(3)] == [1, 0, 1]
        assert (anon(b, 0), anon(b, 1), anon(b, 2)) == (100, 0, 300)
        assert b.kills == 1
        assert b.vm.oom_victims.counter == 0
        assert b.task().retries_by[RETRY_OOM] == 1
        assert b.vm.oom_lock == 0
        assert b.zone().vm_stat[NR_FREE_PAGES].counter > 600


def test_report_line_by_line() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 100).oom_score_adj = -7
        b.spawn(1, 700, comm="hog")
        b.hog(GFP_KERNEL | __GFP_NOWARN, order=1)
        lines = b.reports()
        assert lines[0] == (
            "emu/0 invoked oom-killer: gfp_mask=0x2cc0(GFP_KERNEL|__GFP_NOWARN), order=1, oom_score_adj=0"
        )
        assert lines[1] == "Mem-Info:"
        at = lines.index("Tasks state (memory values in pages):")
        assert lines[at:] == [
            "Tasks state (memory values in pages):",
            "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
            "[   2000]     0  2000      100      100     4096        0            -7 user",
            "[   2001]     0  2001      700      700     8192        0             0 hog",
            (
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,"
                "task=hog,pid=2001,uid=0"
            ),
            (
                "Out of memory: Killed process 2001 (hog) total-vm:2800kB, anon-rss:2800kB, file-rss:0kB, "
                "shmem-rss:0kB, UID:0 pgtables:8kB oom_score_adj:0"
            ),
        ]


def test_recorded_lines_come_out_as_the_kernel_printed_them() -> None:
    with gzip.open(DMESG, "rt") as file:
        lines = [line.replace("otool", "user") for line in file.read().splitlines()]
    tasks = [re.fullmatch(r"\[\s*(\d+)\]\s+0\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(-?\d+) user", x) for x in lines]
    killed = re.compile(r"Out of memory: Killed process (\d+) .*total-vm:(\d+)kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, "
                        r"shmem-rss:(\d+)kB, UID:0 pgtables:(\d+)kB oom_score_adj:(-?\d+)")  # fmt: skip
    with killer() as b:
        b.user(0).comm = COMMS.index("user")

        def row(kind: int, pid: int, size: int, tables: int, rss: tuple[int, int, int], swap: int, adj: int) -> str:
            b.user(0).pid = b.user(0).tgid = pid
            event = np.zeros(1, dtype_of(Event))[0]
            event["kind"], event["gfp"] = kind, b.number(0) | (adj + 1000) << 16
            event["pfn"], event["a"], event["b"] = size | tables << 32, rss[0] | rss[1] << 32, rss[2] | swap << 32
            return render(event, b.m).rstrip("\n")

        seen = 0
        for line, task in zip(lines, tasks, strict=True):
            if task:
                pid, size, rss, tables, swap, adj = map(int, task.groups())
                assert row(EV_OOM_TASK, pid, size, tables >> 12, (rss, 0, 0), swap, adj) == line
                seen += 1
            elif kill := killed.fullmatch(line):
                pid, size, anon_kb, file_kb, shmem_kb, tables, adj = map(int, kill.groups())
                rss3 = (anon_kb >> 2, file_kb >> 2, shmem_kb >> 2)
                assert row(EV_OOM_KILLED, pid, size >> 2, tables >> 2, rss3, 0, adj) == line
                event = np.zeros(1, dtype_of(Event))[0]
                event["kind"], event["a"] = EV_OOM_SUMMARY, b.number(0)
                assert render(event, b.m).rstrip("\n") in lines
                seen += 1
        assert seen == 5


@pytest.mark.parametrize(("order", "gfp", "flags"), [
    (4, GFP_KERNEL, 0), (0, GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0), (0, GFP_KERNEL | __GFP_THISNODE, 0),
    (0, GFP_KERNEL | __GFP_DMA32, 0), (0, GFP_KERNEL, PF_DUMPCORE),
], ids=str)  # fmt: skip
def test_some_requests_kill_nobody(order: int, gfp: int, flags: int) -> None:
    with killer(two_zones(2048), **SMALL) as b:
        b.spawn(0, 200)
        b.task().process_flags = flags
        while b.alloc(order, gfp | __GFP_NOWARN) >= 0:
            pass
        assert (b.kills, b.user(0).alive, b.vm.panicked) == (0, 1, 0)


def test_request_that_may_not_enter_the_filesystem_kills_nobody_but_is_told_of_progress() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 200)
        KILL(b.m, 0)
        b.user(0).oom_mm = 0
        while b.alloc(0, GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN) >= 0:
            pass
        assert b.kills == 0
        assert b.alloc(0, GFP_NOFS) >= 0  # the killed task exits instead
        assert (b.kills, b.user(0).alive) == (0, 0)


def test_dying_task_gets_the_reserves_at_once() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 300)
        b.spawn(1, 900)
        b.cpu().current = user_task(b.m, 0)
        b.user(0).fatal_signal = 1
        below = 0
        while b.alloc(0, GFP_KERNEL | __GFP_NOWARN) >= 0:
            below = b.zone().vm_stat[NR_FREE_PAGES].counter
        assert (b.kills, b.user(1).alive, b.user(0).oom_victim) == (0, 1, 1)
        assert b.reports() == []
        assert below <= b.zone().watermark[0] // 2 + 1
        assert DIE(b.m, b.cpu(), 0)
        b.cpu().current = b.m.tasks
        assert (b.user(0).alive, b.user(0).oom_victim, b.vm.oom_victims.counter) == (0, 0, 0)


def test_victim_may_use_half_of_min_and_then_fails() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 500)
        b.cpu().current = user_task(b.m, 0)
        b.vm.oom_kill_allocating_task = 1
        while b.alloc(0, GFP_USER | __GFP_NOWARN) >= 0:
            pass
        assert b.kills == 1
        assert b.zone().vm_stat[NR_FREE_PAGES].counter <= b.zone().watermark[0] // 2 + 1
        assert b.alloc(0, GFP_USER | __GFP_NOMEMALLOC | __GFP_NOWARN) == -1
        assert b.reports()[-1].startswith("Out of memory (oom_kill_allocating_task): Killed process 2000 (user) ")
        DIE(b.m, b.cpu(), 0)
        b.cpu().current = b.m.tasks


def test_nobody_left_is_a_panic() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 100).oom_score_adj = -1000
        while b.alloc(0, GFP_KERNEL | __GFP_NOWARN) >= 0:
            pass
        assert (b.vm.panicked, b.m.stop) == (1, 1)
        lines = b.reports()
        assert lines[-2:] == [
            "Out of memory and no killable processes...",
            "Kernel panic - not syncing: System is deadlocked on memory",
        ]
        assert "emu/0 invoked oom-killer" in lines[0]
        b.m.stop = 0


@pytest.mark.parametrize(("value", "bound", "text"), [
    (1, False, "system-wide"), (2, False, "compulsory"), (1, True, ""), (2, True, "compulsory"),
])  # fmt: skip
def test_panic_on_oom(value: int, bound: bool, text: str) -> None:
    two = shape([(0, ZONE_NORMAL, 1024, 2048), (1, ZONE_NORMAL, 3072, 2048)], (0, 1))
    with killer(two, **SMALL) as b:
        b.spawn(0, 100)
        b.vm.panic_on_oom = value
        b.m.cpusets_enabled, b.task().mems_allowed = 1, 0b01 if bound else 0b11
        b.hog(GFP_USER | __GFP_NOWARN)
        said = [line for line in b.reports() if line.startswith("Kernel panic")]
        assert said == ([f"Kernel panic - not syncing: Out of memory: {text} panic_on_oom is enabled"] if text else [])
        assert (bool(b.vm.panicked), b.kills) == (bool(text), int(not text))
        b.m.stop = 0


def test_all_that_share_the_address_space_die() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 800)
        b.spawn(1)
        b.user(1).mm = 1
        b.cpu().current = user_task(b.m, 0)  # so that it isn't gone before we look
        b.vm.oom_kill_allocating_task = 1
        b.hog(GFP_USER | __GFP_NOWARN)
        assert (b.user(0).fatal_signal, b.user(1).fatal_signal) == (1, 1)
        assert (b.user(0).oom_victim, b.user(1).oom_victim) == (1, 0)
        b.user(1).mm = 2
        DIE(b.m, b.cpu(), 0)
        b.cpu().current = b.m.tasks
        assert EXIT_TASK(b.m, b.cpu(), 1)


def test_address_space_shared_with_init_is_not_reaped() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 800)
        b.spawn(1, comm="init").tgid = 1
        b.user(1).mm = 1
        b.cpu().current = user_task(b.m, 0)
        b.vm.oom_kill_allocating_task = 1
        b.hog(GFP_USER | __GFP_NOWARN)
        assert b.mm(0).mm_flags & MMF_OOM_SKIP
        assert (b.user(1).fatal_signal, b.user(0).oom_reaper_expires) == (0, 0)
        assert b.reports()[-1] == "oom killer 2000 (user) has mm pinned by 2001 (init)"
        b.user(1).mm = 2
        DIE(b.m, b.cpu(), 0)
        b.cpu().current = b.m.tasks


def test_one_kill_at_a_time() -> None:
    with killer(one_zone(4096, cpus=2), **SMALL) as b:
        b.spawn(1, 900)
        b.victim_that_runs(300)  # task 0, though the other one is larger
        for _ in range(3):
            assert may_oom(b.m, b.cpu(), GFP_KERNEL, 0) == -3  # go round again
        assert (b.kills, b.user(1).fatal_signal) == (1, 0)
        assert DIE(b.m, b.cpu(1), 0)
        b.cpu(1).current = b.m.tasks
        assert may_oom(b.m, b.cpu(), GFP_KERNEL, 0) >= 0  # it was worth waiting
        assert b.kills == 1


def test_whoever_finds_others_at_it_waits_a_jiffy() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 300)
        b.vm.oom_lock = 1
        assert may_oom(b.m, b.cpu(), GFP_KERNEL, 0) == -3
        b.vm.oom_lock = 0
        assert may_oom(b.m, b.cpu(), GFP_KERNEL, 0) >= 0  # there is memory above the high mark
        assert (b.kills, b.vm.oom_lock) == (0, 0)


@pytest.mark.parametrize(("gfp", "order", "answer"), [
    (GFP_KERNEL, 0, -3), (GFP_KERNEL, 3, -3), (GFP_KERNEL, 4, -2), (GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0, -2),
    (GFP_KERNEL | __GFP_THISNODE, 0, -2), (GFP_KERNEL | __GFP_DMA32, 0, -2), (GFP_NOFS, 0, -3),
], ids=str)  # fmt: skip
def test_what_a_request_is_told(gfp: int, order: int, answer: int) -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 300)
        for size in (4, 2, 1, 0):
            while b.alloc(size, GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN) >= 0:
                pass
        assert may_oom(b.m, b.cpu(), gfp, order) == answer
        assert b.kills == int(answer == -3 and gfp != GFP_NOFS)
        assert b.user(0).alive == int(b.kills == 0)


def test_dump_can_be_left_out_and_is_limited() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.vm.oom_dump_tasks = 0
        b.vm.oom_rs.interval_ns, b.vm.oom_rs.burst = 5_000_000_000, 1
        for k in range(2):
            b.spawn(k, 400)
        b.hog()
        first = b.reports()
        b.hog()
        second = b.reports()
        assert "Tasks state (memory values in pages):" not in first and "Mem-Info:" in first
        assert [line.split(" ", 5)[:5] for line in second] == [["Out", "of", "memory:", "Killed", "process"]]


def test_nofail_gets_the_reserves_after_a_kill() -> None:
    with killer(one_zone(4096), **SMALL) as b:
        b.spawn(0, 300)
        b.spawn(1, 300)
        b.cpu().trace = 1
        while b.kills == 0:
            assert b.alloc(0, GFP_KERNEL | __GFP_NOFAIL) >= 0
            b.events()
        b.cpu().trace = 0
        assert b.vm.panicked == 0
