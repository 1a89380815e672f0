"""/proc/lock_stat: byte for byte as lockdep_proc.c writes it, and its numbers are those of the locks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emu.config import make_config
from emu.machine import Machine
from emu.proc.lock_stat import HOLDS, WAITS, class_name, clear_lock_stats, histogram_of, lock_classes, render, symbol
from emu.run import WorkloadRun
from emu.zone.lock_class import LOCK_CLASS_LRU, LOCK_CLASS_SLAB, LOCK_CLASS_TASK, LOCK_CLASS_ZONE
from emu.zone.locks import locks_of
from shm.lockstat import LockPoint, LockTime
from shm.point import site
from shm.spinlock_types import Spinlock
from shm.struct import Array

RunEmu = Callable[..., CompletedProcess[str]]
RMQUEUE_BULK = site("rmqueue_bulk:lock")
FREE_BULK = site("free_pcppages_bulk:lock")

GOLDEN = (
    "lock_stat version 0.4\n"
    + "-" * 221 + "\n"
    + "                              class name    con-bounces    contentions   waittime-min   waittime-max"
    + " waittime-total   waittime-avg    acq-bounces   acquisitions   holdtime-min   holdtime-max holdtime-total"
    + "   holdtime-avg\n"
    + "-" * 221 + "\n"
    + "\n"
    + "                             &zone->lock:             4              5           0.05           5.00"
    + "           6.05           1.21             51            101           0.04        1000.00        1030.00"
    + "          10.20\n"
    + "                             -----------\n"
    + "                             &zone->lock              3          [<000000002bf4cf46>]"
    + " rmqueue_bulk+0xf46/0x1000\n"
    + "                             &zone->lock              2          [<000000001269455b>]"
    + " free_pcppages_bulk+0x55b/0x1000\n"
    + "                             -----------\n"
    + "                             &zone->lock              2          [<000000001269455b>]"
    + " free_pcppages_bulk+0x55b/0x1000\n"
    + "                             &zone->lock              1          [<0000000000000011>] 0x11\n"
    + "                             &zone->lock              1          [<0000000000000022>] 0x22\n"
    + "                             &zone->lock              1          [<0000000000000033>] 0x33\n"
    + "\n"
    + "." * 221 + "\n"
    + "\n"
    + "                           &n->list_lock:             0              2           0.00           0.00"
    + "           0.00           0.00              0              9           0.00           0.00           0.00"
    + "           0.00\n"
    + "                        &pgdat->lru_lock:             0              0           0.00           0.00"
    + "           0.00           0.00              1              1           0.10           0.10           0.10"
    + "           0.10\n"
)  # fmt: skip


def times(of: LockTime, nr: int, shortest: int, longest: int, total: int) -> None:
    of.nr, of.shortest, of.longest, of.total = nr, shortest, longest, total


def points(of: Array[LockPoint], *counted: tuple[int, int]) -> None:
    for at, (where, contentions) in enumerate(counted):
        of[at].site, of[at].contentions = where, contentions


def lock(lock_class: int, acquisitions: int, contentions: int, con_bounces: int, acq_bounces: int) -> Spinlock:
    made = Spinlock()
    made.lock_class, made.acquisitions, made.contentions = lock_class, acquisitions, contentions
    made.stat.con_bounces, made.stat.acq_bounces = con_bounces, acq_bounces
    return made


def constructed() -> list[tuple[str, Spinlock]]:
    """Two locks of one class, one that nobody waited for, one that nobody measured, one that nobody took."""
    quiet = lock(LOCK_CLASS_LRU, 1, 0, 0, 1)
    times(quiet.stat.holds, 1, 100, 100, 100)
    first = lock(LOCK_CLASS_ZONE, 100, 4, 3, 50)
    times(first.stat.waits, 4, 100, 5000, 6000)
    times(first.stat.holds, 100, 40, 2000, 30_000)
    points(first.stat.contention_points, (FREE_BULK, 2), (RMQUEUE_BULK, 2))
    points(first.stat.contending_points, (FREE_BULK, 2), (0x11, 1), (0x22, 1))
    second = lock(LOCK_CLASS_ZONE, 1, 1, 1, 1)
    times(second.stat.waits, 1, 50, 50, 50)
    times(second.stat.holds, 1, 999_995, 999_995, 999_995)
    points(second.stat.contention_points, (RMQUEUE_BULK, 1))
    points(second.stat.contending_points, (0x33, 1), (0x44, 1))
    unmeasured, unused = lock(LOCK_CLASS_SLAB, 9, 2, 0, 0), lock(LOCK_CLASS_TASK, 0, 0, 0, 0)
    return [(str(i), made) for i, made in enumerate((quiet, first, second, unmeasured, unused))]


def test_text_is_the_kernels() -> None:
    assert render(constructed()) == GOLDEN


def test_a_site_keeps_its_symbol_and_an_unknown_one_is_a_number() -> None:
    assert (RMQUEUE_BULK, symbol(RMQUEUE_BULK)) == (0x2BF4CF46, "rmqueue_bulk+0xf46/0x1000")
    assert symbol(0x123) == "0x123"


def test_clearing_forgets_all_but_the_lock() -> None:
    locks = constructed()
    locks[1][1].word = 3
    clear_lock_stats(locks)
    assert lock_classes(locks) == [] and locks[1][1].word == 3
    assert locks[1][1].stat.contention_points[0].site == 0 and locks[1][1].stat.waits.longest == 0


def rows(text: str) -> dict[str, list[float]]:
    """The numbers of each class."""
    found = re.findall(r"^ *(\S+):((?: +[\d.]+){12})$", text, re.MULTILINE)
    return {name: [float(n) for n in numbers.split()] for name, numbers in found}


@pytest.mark.compiled
@pytest.mark.slow
def test_numbers_are_those_of_the_locks() -> None:
    values = {"cpus": 2, "memory": "64M", "workload": "bulk", "operations": 60_000, "lock_stat": True, "pin": False}
    with WorkloadRun(make_config(values, "test")) as work:
        work.run()
        work.machine.halt()
        locks = list(locks_of(work.machine.m))
        found = rows(render(locks))
        assert next(iter(found)) == "&zone->lock"
        for what in lock_classes(locks):
            of_class = [one for _, one in locks if one.acquisitions and class_name(one) == what.name]
            row = found[what.name]
            assert row[7] == sum(one.acquisitions for one in of_class) == sum(one.stat.holds.nr for one in of_class)
            assert row[1] == sum(one.contentions for one in of_class) == sum(one.stat.waits.nr for one in of_class)
            assert row[0] <= row[1] and row[6] <= row[7]
            assert row[8] <= row[11] <= row[9] <= row[10]
            assert row[11] == pytest.approx(row[10] / row[7], abs=0.02)
        zones = [one for _, one in locks if one.lock_class == LOCK_CLASS_ZONE]
        assert sum(one.stat.holds.nr for one in zones) > 1000
        for one in zones:
            for which, of in ((WAITS, one.stat.waits), (HOLDS, one.stat.holds)):
                counts = histogram_of(one, which)
                assert counts is not None and sum(counts.counts) == of.nr
            assert sum(p.contentions for p in one.stat.contention_points) == one.contentions
        clear_lock_stats(locks)
        assert rows(render(locks)) == {}
        assert all(sum(histogram_of(one, HOLDS).counts) == 0 for one in zones)  # type: ignore[union-attr]


@pytest.mark.compiled
@pytest.mark.slow
def test_commands_show_and_keep_it(run_emu: RunEmu, tmp_path: Path) -> None:
    with Machine(cpus=1, memory="64M") as m:
        m.free_pages(pfn=m.alloc_pages(order=3), order=3)
        shown = run_emu("proc", "lock_stat")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(GOLDEN[: GOLDEN.index("&zone")].rstrip(" ")) and rows(shown.stdout)["&zone->lock"]
    args = ("run", "--cpus", "2", "--mem", "64M", "--workload", "bulk", "-n", "20000", "--lock-stat")
    done = run_emu(*args, "--out", tmp_path / "r", "-q")
    assert done.returncode == 0, done.stderr
    assert rows((tmp_path / "r/proc/lock_stat").read_text())["&zone->lock"][7] > 500
    assert re.search(r"^(&zone->lock +[\d,]+ +[\d,]+ .* \w+|no lock was waited for)$", done.stdout, re.MULTILINE)
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert "&zone->lock" in [one["name"] for one in summary["locks"]]
    refused = run_emu("proc", "lock_stat", "--state", tmp_path / "r/state.json.gz")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "saved state" in refused.stderr
