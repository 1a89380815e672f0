"""Interrupt state, and locks taken with interrupts off."""

from emu.cpu.irq import IRQ_TIMER
from tests.bench import Bench, bench, core


def test_saving_nests() -> None:
    with bench() as b:
        outer = core.local_irq_save(b.cpu(), 1)
        inner = core.local_irq_save(b.cpu(), 1)
        assert (outer, inner, b.cpu().party.irqs_off) == (0, 1, 1)
        core.local_irq_restore(b.m, b.cpu(), inner)
        assert b.cpu().party.irqs_off == 1
        core.local_irq_restore(b.m, b.cpu(), outer)
        assert b.cpu().party.irqs_off == 0


def pending(b: Bench) -> None:
    b.cpu().irq_pending = IRQ_TIMER


def test_pending_interrupt_comes_in_when_interrupts_go_on() -> None:
    with bench() as b:
        flags = core.local_irq_save(b.cpu(), 1)
        pending(b)
        core.local_irq_restore(b.m, b.cpu(), 1)
        assert (b.cpu().irq_entries, b.cpu().irq_pending) == (0, IRQ_TIMER)
        core.local_irq_restore(b.m, b.cpu(), flags)
        assert (b.cpu().irq_entries, b.cpu().irq_pending) == (1, 0)


def test_lock_holds_interrupts_off_until_it_is_given_back() -> None:
    with bench() as b:
        lock = b.zone().lock
        flags = core.spin_lock_irqsave(b.cpu(), lock, 1)
        assert (b.cpu().party.irqs_off, lock.word) == (1, 1)
        pending(b)
        core.spin_unlock_irqrestore(b.m, b.cpu(), lock, flags)
        assert (b.cpu().party.irqs_off, lock.word, b.cpu().irq_entries) == (0, 0, 1)


def test_poll_point_delivers_unless_interrupts_are_off() -> None:
    with bench() as b:
        pending(b)
        b.cpu().party.irqs_off = 1
        core.poll(b.m, b.cpu())
        assert b.cpu().irq_entries == 0
        b.cpu().party.irqs_off = 0
        core.poll(b.m, b.cpu())
        assert b.cpu().irq_entries == 1


def test_allocation_lets_a_pending_interrupt_in() -> None:
    with bench() as b:
        pending(b)
        b.alloc()
        assert (b.cpu().irq_entries, b.cpu().party.irqs_off) == (1, 0)
