"""Workloads that want more memory than there is, on real processes; every invariant holds afterwards."""

from itertools import pairwise

import pytest

from emu.config import ConfigError, make_config
from emu.machine import Machine, MachineError
from emu.run import MAX_PARTS, WorkloadRun
from emu.workload.catalogue import WORKLOADS, shares
from emu.zone.event import EV_OOM_KILL, EV_OOM_PANIC
from emu.zone.init_vm import vm_of
from emu.zone.page import PG_swapcache
from emu.zone.snapshot import mem_map
from emu.zone.validate import validate

pytestmark = [pytest.mark.compiled, pytest.mark.slow]


def _pressed(workload: str, **values: object) -> dict[str, int]:
    """Run a workload on a small machine; its counters afterwards, all invariants checked."""
    config = make_config(
        {"cpus": 2, "memory": "32M", "workload": workload, "operations": 60_000, "pin": False, **values}, "test"
    )
    with WorkloadRun(config) as work:
        report = work.run()
        work.machine.settle()
        work.machine.halt()
        assert validate(work.machine.m) == []
        assert work.machine.lost_events() == 0
    return {**report.vmstat, "killed": report.killed}


def test_filecache_is_reclaimed_by_kswapd_without_a_kill() -> None:
    counts = _pressed("filecache", fill=1.5, operations=250_000)
    assert counts["pgsteal_kswapd"] > 1000 and counts["pgscan_kswapd"] >= counts["pgsteal_kswapd"]
    assert counts["killed"] == 0
    assert counts["slabs_scanned"] > 0  # names were looked up


def test_hog_without_swap_is_killed_and_with_swap_is_swapped() -> None:
    assert _pressed("hog", fill=1.2)["oom_kill"] > 0
    counts = _pressed("hog", fill=1.2, swap="64M", operations=600_000)
    assert counts["pswpout"] > 500 and counts["pswpin"] > 100
    assert counts["unevictable_pgs_mlocked"] > 0


def test_a_limited_group_is_reclaimed_while_the_machine_has_memory() -> None:
    config = make_config(
        {
            "cpus": 1, "memory": "64M", "swap": "64M", "workload": "hog", "fill": 0.5, "operations": 60_000,
            "memcg_max": "8M", "memcg_high": "6M", "pin": False,
        },
        "test",
    )  # fmt: skip
    seen: list[int] = []
    with WorkloadRun(config) as work:
        m = work.machine.m
        report = work.run(tick=lambda: seen.append(m.memcgs[0].memory))
        assert max(seen) <= (8 << 8) + 32  # a batch of charges beyond it
        assert report.vmstat["pswpout"] > 500 and "pgscan_kswapd" not in report.vmstat
        work.machine.settle()
        work.machine.halt()
        left = mem_map(m)["page_flags"] & PG_swapcache != 0  # were being written when their process ended
        assert m.memcgs[0].memory == left.sum() and validate(m) == []


def test_options_reach_the_machine() -> None:
    values = {
        "sysctl": {"vfs_cache_pressure": 50, "page-cluster": 0, "min_slab_ratio": 10}, "disk_latency": 7,
        "disk_bandwidth": "4M", "boot": {"no_zonelist_cookie": True}, "memory": "64M", "cpus": 1,
    }  # fmt: skip
    with Machine(make_config(values, "test")) as m:
        vm = vm_of(m.m)
        assert (vm.vfs_cache_pressure, vm.page_cluster, vm.min_slab_ratio) == (50, 0, 10)
        assert m.m.nodes[0].min_slab_pages == sum(z.managed_pages // 10 for z in m.m.nodes[0].node_zones)
        assert (vm.disk.latency_ns, vm.disk.page_ns) == (7000, 976_562)
        assert (vm.no_cpuset_cookie, vm.no_zonelist_cookie) == (0, 1)


def test_forkstorm_gives_everything_back() -> None:
    assert _pressed("forkstorm")["killed"] == 0


@pytest.mark.parametrize("fill", [1.0, 4.0])
def test_a_part_that_wants_most_of_the_memory_keeps_to_its_slots(fill: float) -> None:
    config = make_config({"cpus": 2, "memory": "64M", "workload": "bulk,network", "fill": fill}, "test")
    work = WorkloadRun(config)
    try:
        assert all(0 < run.want <= run.nr_slots for run in work.runs())
        rows = sorted((run.slots, run.slots + run.nr_slots * 16) for run in work.runs())
        assert all(end <= start for (_, end), (start, _) in pairwise(rows))
        assert rows[-1][1] <= work.machine.m.script + work.machine.m.script_size
    finally:
        work.machine.stop()


KERNEL = [name for name, work in WORKLOADS.items() if not work.tasks and not work.file]


@pytest.mark.parametrize("workload", ["bulk,network", ",".join(KERNEL[:MAX_PARTS]), *KERNEL])
@pytest.mark.parametrize("cpus", [1, 8])
def test_what_cannot_be_killed_leaves_the_machine_some_memory(workload: str, cpus: int) -> None:
    """A workload of the kernel's own pages doesn't panic a machine, however small and with however many CPUs."""
    assert _pressed(workload, cpus=cpus, operations=20_000).get("oom_kill", 0) == 0


@pytest.mark.parametrize("parts", [[name, *KERNEL[:7]] for name in WORKLOADS if name not in KERNEL])
def test_workloads_together_want_no_more_than_there_is(parts: list[str]) -> None:
    part = shares(parts)
    assert part.keys() == set(parts) and sum(part.values()) <= 1.0001
    assert sum(part[name] for name in parts if name in KERNEL) <= 0.8001
    assert shares(["bulk", "network"]) == {"bulk": 0.5, "network": 0.1}


def test_a_panic_is_said_once() -> None:
    config = make_config({"cpus": 4, "memory": "32M", "workload": "rand", "fill": 4.0, "operations": 60_000}, "test")
    told: list[int] = []
    with WorkloadRun(config) as work:
        work.machine.on_report = lambda event: told.append(int(event["kind"]))
        with pytest.raises(MachineError, match="System is deadlocked on memory"):
            work.run()
    assert (told.count(EV_OOM_KILL), told.count(EV_OOM_PANIC)) == (1, 1)


def test_all_together() -> None:
    counts = _pressed("filecache,thp,forkstorm,hog,network", fill=1.2, swap="16M", operations=20_000, memory="64M")
    assert counts["pgsteal_kswapd"] + counts.get("pgsteal_direct", 0) > 100


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workload": "hog,nonsense"}, "give up to 8 of"),
        ({"workload": "hog,hog"}, "each one once"),
        ({"workload": "hog", "cpus": 64, "memory": "1G"}, "64 CPUs"),
        ({"workload": "filecache", "cpus": 64, "memory": "1G"}, "64 CPUs"),
        ({"workload": "hog", "swap": "1K"}, "swap"),
        ({"disk_bandwidth": "4K"}, "disk_bandwidth"),
        ({"sysctl": {"compaction_proactiveness": 500}}, "compaction_proactiveness: 500 is not in"),
    ],
)
def test_impossible_pressure_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorkloadRun(make_config(values, "test"))
