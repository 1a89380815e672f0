"""Machines of real processes: they do what they are told, are supervised, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from emu.config import ConfigError
from emu.machine import Machine, MachineError
from emu.zone.event import KINDS
from emu.zone.gfp import __GFP_NOWARN, GFP_ATOMIC
from emu.zone.init_vm import vm_of
from emu.zone.validate import validate
from shm.atomic import store_release
from shm.segment import directory


def test_every_cpu_is_a_process() -> None:
    with Machine(cpus=3, memory="64M") as m:
        pids = {c.pid for c in m.children}
        assert len(pids) == 3 + 5 and os.getpid() not in pids  # CPUs; kswapd, kcompactd, disk, flusher, oom_reaper
        assert {m.board.cpu(c.index).party.pid for c in m.children} == pids


def test_a_page_goes_from_cpu_to_cpu() -> None:
    with Machine(cpus=2, memory="64M") as m:
        pfn = m.alloc_pages(cpu=0, order=3)
        assert pfn % 8 == 0
        m.free_pages(cpu=1, pfn=pfn, order=3)
        assert validate(m.m) == []


def test_order_0_pages_come_from_the_cpus_own_pageset() -> None:
    with Machine(cpus=2, memory="64M") as m:
        a, b = m.alloc_pages(cpu=0), m.alloc_pages(cpu=1)
        m.free_pages(cpu=0, pfn=b)
        assert m.alloc_pages(cpu=0) == b  # last in, first out on the CPU that freed it
        m.free_pages(cpu=1, pfn=a)


def test_two_nodes_prefer_their_own_memory() -> None:
    with Machine(cpus=2, nodes=("64M", "64M")) as m:
        zones = {(z.nid, z.zid): z for z in m.board.shape.zones}
        second = next(z for (nid, _), z in zones.items() if nid == 1)
        assert m.alloc_pages(cpu=0) < second.start_pfn <= m.alloc_pages(cpu=1)


def test_who_reports_waits_until_it_is_printed() -> None:
    with Machine(cpus=1, memory="64M") as m:
        vm, seen = vm_of(m.m), []
        vm.nopage_rs.interval_ns = 0
        while m.alloc_pages(gfp=GFP_ATOMIC | __GFP_NOWARN, order=10) >= 0:
            pass
        m.alloc_pages(gfp=GFP_ATOMIC, order=10)
        assert vm.reports == 0  # nobody prints
        m.pump()
        m.on_report = lambda event: seen.append((KINDS[event["kind"]], vm.reports - vm.reports_printed, m.idle(0)))
        m.alloc_pages(gfp=GFP_ATOMIC, order=10)
        assert seen == [("page_alloc_failure", 1, False)]
        assert vm.reports == vm.reports_printed == 1


def test_killed_cpu_is_named_and_nothing_is_left() -> None:
    with pytest.raises(MachineError, match=r"cpu1 \(pid \d+\) was killed by SIGKILL, holding no lock"):
        with Machine(cpus=2, memory="64M") as m:
            path = m.board.segment.path
            os.kill(m.children[1].pid, signal.SIGKILL)
            m.wait([0])
            while True:
                m.alloc_pages(cpu=0)
    assert not path.exists()


def test_lock_of_a_killed_cpu_is_named() -> None:
    with pytest.raises(MachineError, match="holding zone->lock of node 0 DMA32, taken at"):
        with Machine(cpus=2, memory="64M") as m:
            lock = m.m.nodes[0].node_zones[1].lock
            lock.word = 2  # as if cpu1 were inside
            os.kill(m.children[1].pid, signal.SIGKILL)
            while True:
                m.alloc_pages(cpu=0, order=1)


def test_kswapd_wakes_records_and_sleeps_again() -> None:
    with Machine(cpus=1, memory="64M", trace=True) as m:
        m.keep_events = True
        m.board.m.nodes[0].node_zones[1].watermark_boost = 100
        m.board.m.nodes[0].node_zones[1].zone_flags = 1
        m.alloc_pages(order=1)
        deadline = time.monotonic() + 10
        while not any((batch["kind"] == 9).any() for batch in m.events):
            m.supervise()
            assert time.monotonic() < deadline
        assert m.m.nodes[0].node_zones[1].zone_flags == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cpus": 0}, "cpus"),
        ({"cpus": 257}, "cpus"),
        ({"memory": "1M"}, "too little"),
        ({"memory": "64X"}, "not a size"),
        ({"nodes": ("64M",) * 9}, "nodes"),
        ({"movable": "64M", "memory": "64M"}, "movable"),
        ({"sysctl": {"min_free_kbytes": 1 << 20}, "memory": "64M"}, "too little for min_free_kbytes"),
        ({"sysctl": {"watermark_scale_factr": 1}}, "watermark_scale_factr"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_impossible_machines_are_refused_in_one_line(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as info:
        Machine(**values)  # type: ignore[arg-type]
    assert says in str(info.value) and "\n" not in str(info.value)


def test_more_than_the_host_holds_is_refused() -> None:
    from emu.zone.boot import ShapeError

    with pytest.raises(ShapeError, match="this host has"):
        Machine(memory="64T")


SCRIPT = """
import sys
from emu.machine import Machine
with Machine(cpus=2, memory="64M") as m:
    print(m.board.segment.path, *(c.pid for c in m.children), flush=True)
    sys.stdin.read()
"""


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_parent_killed_outright_leaves_nothing() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert parent.stdin and parent.stdout
    path, *pids = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while (any(_alive(int(p)) for p in pids) or Path(path).exists()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(_alive(int(p)) for p in pids)
    assert not Path(path).exists()


def test_stop_is_idempotent_and_unlinks() -> None:
    m = Machine(cpus=1, memory="64M").start()
    name = m.board.segment.path.name
    m.stop()
    m.stop()
    assert not (directory() / name).exists()


def test_soft_lockup_names_what_the_cpu_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.machine.SOFT_LOCKUP_S", 0.3)
    says = r"soft lockup - CPU#0 stuck .* waiting at rmqueue:lock for zone->lock of node 0 DMA32, held by cpu1"
    with pytest.raises(MachineError, match=says):
        with Machine(cpus=2, memory="64M") as m:
            lock = m.m.nodes[0].node_zones[1].lock
            store_release(lock, "word", 2)  # cpu1 took it and never lets go
            m.alloc_pages(order=1)
