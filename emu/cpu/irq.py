"""What interrupts do: a network card's receive ring, the timer tick, an inter-processor interrupt.

Whoever wants to interrupt a CPU sets bits in its pending mask (:func:`raise_irq`). They are delivered on that CPU when
its interrupts go on, and at poll points; a handler runs to completion, allocates with GFP_ATOMIC and frees, through the
very pagesets that the interrupted code uses.
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.workqueue import ring_doorbell, run_work
from emu.zone.gfp import __GFP_NOWARN, GFP_ATOMIC
from emu.zone.irq import do_IRQ
from emu.zone.mmzone import RX_RING, Cpu, Machine
from emu.zone.page import NULL
from shm.atomic import fetch_or, xchg
from shm.core import as_entries, core, entry, implements

IRQ_NET = 1
IRQ_TIMER = 2  # interrupts, and that is all: jiffies come from the clock (emu.zone.time)
IRQ_IPI = 4
NET_BURST = 8


@entry
def raise_irq(target: Cpu, bits: int) -> None:
    """Make interrupts pending on a CPU, and wake it if it idles."""
    fetch_or(target, "irq_pending", bits)
    ring_doorbell(target)


@core(cold=True)
def net_rx(m: Machine, cpu: Cpu) -> None:
    """A burst of packets: each slot's old page is freed (its packet is consumed) and refilled with a new one.

    The ring keeps pfn + 1, so that a zeroed ring is empty; a slot that could not be refilled stays empty.
    """
    for _ in range(NET_BURST):
        slot = cpu.rx_next % RX_RING
        old = cpu.rx_ring[slot]
        if old != 0:
            __free_pages(m, cpu, old - 1, 0)
        pfn = alloc_pages(m, cpu, GFP_ATOMIC | __GFP_NOWARN, 0)
        cpu.rx_ring[slot] = 0 if pfn == NULL else pfn + 1
        cpu.rx_dropped += 1 if pfn == NULL else 0
        cpu.rx_next += 1


@entry
def net_stop(m: Machine, cpu: Cpu) -> int:
    """Give the receive ring's pages back. Returns how many there were."""
    given = 0
    for slot in range(RX_RING):
        if cpu.rx_ring[slot] != 0:
            __free_pages(m, cpu, cpu.rx_ring[slot] - 1, 0)
            cpu.rx_ring[slot] = 0
            given += 1
    return given


@implements(do_IRQ)
def handle_irq(m: Machine, cpu: Cpu) -> None:
    """Deliver everything pending, with interrupts off, until nothing is."""
    flags = cpu.irqs_off
    cpu.irqs_off = 1
    cpu.irq_nesting += 1
    while cpu.irq_pending != 0:
        pending = xchg(cpu, "irq_pending", 0)
        cpu.irq_entries += 1
        if pending & IRQ_NET != 0:
            net_rx(m, cpu)
        if pending & IRQ_IPI != 0:
            run_work(m, cpu)
    cpu.irq_nesting -= 1
    cpu.irqs_off = flags


IRQ_ENTRIES = as_entries(raise_irq, net_stop)
