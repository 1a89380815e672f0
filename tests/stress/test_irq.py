"""Interrupts at any instruction: with interrupts off when 5.10 has them off nothing is torn, and without it is."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from emu.config import make_config
from emu.cpu.irq import IRQ_IPI, IRQ_NET, IRQ_TIMER, interrupt, net_stop, raise_irq
from emu.cpu.irq_signal import IRQ_SIGNAL
from emu.machine import Machine
from emu.stress.irq import stress_irq
from emu.stress.irq_source import InterruptSource
from emu.stress.unsafe import kind_of
from emu.zone.irq_stat import irq_stat_of
from emu.zone.snapshot import nr_free_pages
from emu.zone.validate import validate
from shm.atomic import load_acquire, process_signal
from shm.core import INTERPRETED
from shm.symbols import Symbols


def small(**values: object) -> object:
    return make_config({"cpus": 2, "memory": "64M", "duration": 0.5, "seed": 7, **values}, "test")


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["repeat", "mixed"])
def test_nothing_is_lost_or_torn_under_interrupts(workload: str) -> None:
    report = stress_irq(small(workload=workload))
    assert report.consistent, (report.problems, report.broken, report.lost_pages)
    assert report.ops > 0
    assert report.delivered > 0
    assert sum(report.sent.values()) >= report.signals >= report.delivered // 2
    assert report.packets % 8 == 0
    assert report.irqs_off.count > 0
    assert report.longest_at != "-"
    if not INTERPRETED:
        assert sum(report.landed.values()) > 100
        assert set(report.landed) > {"elsewhere"}  # some came in within the allocator


def test_a_signal_interrupts_an_idle_cpu_and_waits_for_interrupts_to_be_on() -> None:
    with Machine(cpus=1, memory="64M", irq_stat=True) as m:
        cpu = m.board.cpu(0)
        free = nr_free_pages(m.m)
        for bits in (IRQ_TIMER, IRQ_NET | IRQ_TIMER, IRQ_IPI):
            entries = cpu.irq_entries
            raise_irq(cpu, bits)
            process_signal(cpu.party.pid, IRQ_SIGNAL)
            while load_acquire(cpu, "irq_entries") == entries:  # the test's time limit is this loop's
                m.supervise()
        assert (cpu.ticks, cpu.rx_next) == (2, 8)
        assert net_stop(m.m, cpu) == 8
        assert nr_free_pages(m.m) == free
        assert validate(m.m) == []


def test_an_interrupt_that_finds_interrupts_off_stays_pending() -> None:
    with Machine(cpus=1, memory="64M", irq_stat=True) as m:
        m.halt()
        cpu = m.board.cpu(0)
        cpu.party.irqs_off, cpu.irq_pending = 1, IRQ_TIMER
        interrupt(m.m, cpu, 4711)
        stat = irq_stat_of(cpu)
        assert (cpu.ticks, cpu.irq_pending, stat.deferred) == (0, IRQ_TIMER, 1)
        assert stat.hits[stat.nr_hits - 1] == 4711
        cpu.party.irqs_off = 0
        interrupt(m.m, cpu, 0)
        assert (cpu.ticks, cpu.irq_pending, stat.deferred) == (1, 0, 1)


def test_unknown_kinds_of_interrupts_are_refused() -> None:
    with Machine(cpus=1, memory="64M", irq_stat=True) as m:
        for rates in ({"disk": 1.0}, {"net": -1.0}):
            with pytest.raises(ValueError, match="interrupt rates"):
                InterruptSource(m.m, rates, 1)


@pytest.mark.compiled
def test_instructions_have_names() -> None:
    with Machine(cpus=1, memory="64M"):
        symbols = Symbols.of(interrupt)
    at = symbols.names.index("interrupt")
    assert symbols.function(symbols.starts[at] + 4) == f"interrupt+0x4/{symbols.ends[at] - symbols.starts[at]:#x}"
    assert {"get_page_from_freelist", "free_pcppages_bulk"} & set(symbols.names)
    assert symbols.starts == sorted(symbols.starts)
    assert symbols.function(0) == "elsewhere"


def emu(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "emu", "stress", "irq", *args], env={**os.environ, **env}, capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_without_irqsave_machines_break_and_say_how() -> None:
    done = emu("--unsafe", "no-irqsave", "--duration", "12", "--memory", "64M", "--json", EMU_MODE="interpreted")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert set(report["examples"]) & {"list corruption", "spinlock recursion", "lockup", "bad page"}
    for kind, example in report["examples"].items():
        assert example["broken"] or example["problems"] or example["lost_pages"], kind
    assert report["config"]["seed"] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--rate", "disk=3"], "--rate disk=3: give net=N, timer=N, ipi=N"),
        (["--rate", "net=fast"], "--rate net=fast"),
        (["--unsafe", "no-locks"], "--unsafe no-locks: not one of no-irqsave"),
        (["--workload", "sleep"], "workload sleep"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(args: list[str], says: str) -> None:
    done = emu(*args)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_broke_first_names_the_kind() -> None:
    report = stress_irq(small(duration=0.05))
    recursion = ["BUG: spinlock recursion on CPU#0", "list_del corruption."]
    assert kind_of(report) == "nothing noticed"
    assert kind_of(replace(report, lost_pages=3)) == "list corruption"
    assert kind_of(replace(report, broken=recursion)) == "spinlock recursion"
    assert kind_of(replace(report, broken=["CPU 1 ended"])) == "other"
