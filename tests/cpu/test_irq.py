"""Interrupts: pending, masked, delivered where 5.10 would deliver them."""

from collections.abc import Iterator

import pytest

from emu.cpu.irq import IRQ_NET, IRQ_TIMER, net_stop, raise_irq
from emu.machine import Machine
from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.validate import validate
from tests import program
from tests.cpu.entries import alloc_with_pending, masked_section


@pytest.fixture
def board() -> Iterator[Board]:
    program.load()
    with Board.boot(shape_of(1, [1 << 14])) as b:
        yield b


def test_interrupts_wait_until_the_outermost_restore(board: Board) -> None:
    assert masked_section(board.m, board.cpu(0)) == 0 << 8 | 1


def test_interrupt_inside_an_allocation_uses_the_same_pageset(board: Board) -> None:
    cpu = board.cpu(0)
    pfn = alloc_with_pending(board.m, cpu)
    taken = [page - 1 for page in cpu.rx_ring if page]
    assert cpu.irq_entries == 1 and len(taken) == 8 and pfn not in taken
    assert cpu.irqs_off == 0 and cpu.irq_nesting == 0
    assert net_stop(board.m, cpu) == 8
    assert validate(board.m) == []


def test_a_cpu_process_serves_interrupts_while_it_idles() -> None:
    with Machine(cpus=1, memory="64M") as m:
        cpu = m.board.cpu(0)
        raise_irq(cpu, IRQ_NET | IRQ_TIMER)
        while cpu.irq_entries == 0:  # the test's time limit is this loop's
            m.supervise()
