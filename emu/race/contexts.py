"""What seats do: CPUs run their programs, daemons their rounds, and interrupts and queued work come on top."""

from emu.compact.kcompactd import kcompactd_round
from emu.cpu.workqueue import run_work
from emu.mm.disk import disk_round
from emu.mm.flusher import flusher_round
from emu.race.area import RaceArea, area_at, race_area
from emu.race.arena import arena_at, machine_at
from emu.race.ops import run_op
from emu.race.ops_pages import OP_IRET
from emu.reclaim.kswapd import kswapd_round
from emu.reclaim.oom_reaper import oom_reaper_round
from emu.zone.mmzone import CPU_SIZE, Cpu, Machine, cpu_record
from shm.atomic import load_acquire
from shm.baton import (
    CONTEXT_IRQ, CONTEXT_WORK, S_START, SEAT_DONE, SEAT_READY, SEAT_WAITS_CHANGE, Baton, Seat, pending_contexts,
    run_context, run_seat,
)  # fmt: skip
from shm.core import core, implements

IRQ_PROGRAMS = 16  # programs of interrupts come behind those of tasks


@core
def run_program(m: Machine, cpu: Cpu, a: RaceArea, which: int) -> None:
    """The operations of a program up to its end, or to the end of an interrupt."""
    program = a.programs[which]
    while program.next < program.count:
        op = a.ops[program.first + program.next]
        program.next += 1
        if op.code == OP_IRET:
            return
        run_op(m, cpu, a, op)


@core(cold=True)
def run_irq(m: Machine, cpu: Cpu, a: RaceArea) -> None:
    """The CPU's next interrupt, in hard interrupt context as in ``emu.cpu.irq.hardirq()``."""
    me = cpu.party
    lock_site = me.lock_site
    me.irqs_off = 1
    me.context = 1
    cpu.irq_nesting += 1
    cpu.irq_entries += 1
    run_program(m, cpu, a, IRQ_PROGRAMS + me.index)
    cpu.irq_nesting -= 1
    me.context = 0
    me.lock_site = lock_site
    me.irqs_off = 0


@implements(run_context)
def run_on_top(b: Baton, seat: Seat, kind: int) -> None:
    """An interrupt, or the work that is queued for a CPU."""
    m = machine_at(b, arena_at(b, 0).memory.machine)
    cpu = cpu_record(m, m.cpus + seat.index * CPU_SIZE)
    if kind == CONTEXT_IRQ:
        run_irq(m, cpu, area_at(m, race_area(m)))
    else:
        run_work(m, cpu)


@implements(pending_contexts)
def contexts_of(b: Baton, seat: Seat) -> int:
    """An interrupt that is left to come in, with interrupts on; work, while the task sleeps or hasn't begun, since a
    kernel without preemption runs a worker no earlier."""
    m = machine_at(b, arena_at(b, 0).memory.machine)
    cpu = cpu_record(m, m.cpus + seat.index * CPU_SIZE)
    if cpu.party.irqs_off != 0 or cpu.party.context != 0:
        return 0
    kinds = 0
    program = area_at(m, race_area(m)).programs[IRQ_PROGRAMS + seat.index]
    if program.next < program.count:
        kinds |= 1 << CONTEXT_IRQ
    if cpu.work_tail != load_acquire(cpu, "work_head"):
        state = seat.state
        if state == SEAT_DONE or state == SEAT_WAITS_CHANGE or (state == SEAT_READY and seat.site == S_START):
            kinds |= 1 << CONTEXT_WORK
    return kinds


@core(cold=True)
def run_daemon(m: Machine, cpu: Cpu, which: int) -> None:
    """Rounds of a daemon (its place behind the CPUs) for ever."""
    nodes = m.nr_nodes
    while load_acquire(m, "stop") == 0:
        if which < nodes:
            kswapd_round(m, cpu, m.nodes[which])
        elif which < 2 * nodes:
            kcompactd_round(m, cpu, m.nodes[which - nodes])
        elif which == 2 * nodes:
            disk_round(m, cpu)
        elif which == 2 * nodes + 1:
            flusher_round(m, cpu)
        else:
            oom_reaper_round(m, cpu)


@implements(run_seat)
def run_player(b: Baton, seat: Seat) -> None:
    """A CPU's program, or a daemon."""
    m = machine_at(b, arena_at(b, 0).memory.machine)
    cpu = cpu_record(m, m.cpus + seat.index * CPU_SIZE)
    if seat.index < m.nr_cpus:
        run_program(m, cpu, area_at(m, race_area(m)), seat.index)
    else:
        run_daemon(m, cpu, seat.index - m.nr_cpus)
