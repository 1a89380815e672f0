"""What interrupts do: a network card's receive ring, the timer tick, an inter-processor interrupt.

Whoever wants to interrupt a CPU sets bits in its pending mask (:func:`raise_irq`). They are delivered on that CPU when
its interrupts go on, at poll points, and when its process is signalled (``emu.cpu.irq_signal``); a handler runs to
completion, allocates with GFP_ATOMIC and frees, through the very pagesets that the interrupted code uses.
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.pageset import drain_local_pages
from emu.cpu.workqueue import ring_doorbell
from emu.zone.gfp import __GFP_COMP, __GFP_NOWARN, GFP_ATOMIC
from emu.zone.irq import IRQ_MEASURE, do_IRQ, irqs_come_in, irqs_go_off, local_irq_restore, local_irq_save
from emu.zone.irq_stat import HITS, irq_stat_at
from emu.zone.mmzone import RX_RING, Cpu, Machine
from emu.zone.page import NULL
from shm.atomic import fetch_and, fetch_or, load_acquire
from shm.core import as_entries, core, entry, implements
from shm.point import site

IRQ_NET = 1
IRQ_TIMER = 2  # the tick is counted; jiffies come from the clock (emu.zone.time)
IRQ_IPI = 4  # give back what is on the pcp lists, as drain_all_pages() asked by interrupt up to 4.10
NET_BURST = 8
RX_GFP = GFP_ATOMIC | __GFP_COMP | __GFP_NOWARN
S_HARDIRQ = site("do_IRQ:irqs off")
S_NET_STOP = site("net_stop:irqsave")


@entry
def raise_irq(target: Cpu, bits: int) -> None:
    """Make interrupts pending on a CPU, and wake it if it idles."""
    fetch_or(target, "irq_pending", bits)
    ring_doorbell(target)


@core(inline=True)
def rx_order(slot: int) -> int:
    """What a slot of the receive ring is filled with: mostly single pages, jumbo frames up to order 3."""
    kind = slot & 15
    return 0 if kind < 10 else 1 if kind < 13 else 2 if kind < 15 else 3


@core(cold=True)
def rx_free(m: Machine, cpu: Cpu, slot: int) -> int:
    """The packet of a slot is consumed: 1 if there was one."""
    old = cpu.rx_ring[slot]
    if old == 0:
        return 0
    cpu.rx_ring[slot] = 0
    __free_pages(m, cpu, old - 1, rx_order(slot))
    return 1


@core(cold=True)
def net_rx(m: Machine, cpu: Cpu) -> None:
    """A burst of packets: each slot's old pages are freed (its packet is consumed) and new ones allocated.

    The ring keeps pfn + 1, so that a zeroed ring is empty; a slot that could not be refilled stays empty.
    """
    for _ in range(NET_BURST):
        slot = cpu.rx_next % RX_RING
        rx_free(m, cpu, slot)
        pfn = alloc_pages(m, cpu, RX_GFP, rx_order(slot))
        cpu.rx_ring[slot] = 0 if pfn == NULL else pfn + 1
        cpu.rx_dropped += 1 if pfn == NULL else 0
        cpu.rx_next += 1


@entry
def net_stop(m: Machine, cpu: Cpu) -> int:
    """Give the receive ring's pages back. Returns how many blocks there were."""
    flags = local_irq_save(cpu, S_NET_STOP)
    given = 0
    for slot in range(RX_RING):
        given += rx_free(m, cpu, slot)
    local_irq_restore(m, cpu, flags)
    return given


@core(cold=True)
def hardirq(m: Machine, cpu: Cpu) -> None:
    """Everything that is pending now, with interrupts off. A lock that the interrupted code was about to ask for stays
    on record."""
    me = cpu.party
    lock_site = me.lock_site
    irqs_go_off(cpu, S_HARDIRQ)
    me.irqs_off = 1
    me.context = 1
    cpu.irq_nesting += 1
    pending = fetch_and(cpu, "irq_pending", IRQ_MEASURE)
    cpu.irq_entries += 1
    if pending & IRQ_NET != 0:
        net_rx(m, cpu)
    if pending & IRQ_TIMER != 0:
        cpu.ticks += 1
    if pending & IRQ_IPI != 0:
        drain_local_pages(m, cpu, 0)
    cpu.irq_nesting -= 1
    me.context = 0
    me.lock_site = lock_site
    me.irqs_off = 0


@implements(do_IRQ)
def handle_irq(m: Machine, cpu: Cpu) -> None:
    """Deliver interrupts until none is pending: one that came while a handler ran found them off."""
    while load_acquire(cpu, "irq_pending") & ~IRQ_MEASURE != 0:
        hardirq(m, cpu)
        if load_acquire(cpu, "irq_pending") & IRQ_MEASURE != 0:
            irqs_come_in(m, cpu)


@entry
def interrupt(m: Machine, cpu: Cpu, ip: int) -> None:
    """A signal has come, at this instruction. With interrupts off they stay pending."""
    if cpu.irq_stat != 0:
        stat = irq_stat_at(cpu, cpu.irq_stat)
        stat.signals += 1
        if cpu.party.irqs_off != 0:
            stat.deferred += 1
        stat.hits[stat.nr_hits % HITS] = ip
        stat.nr_hits += 1
    if cpu.party.irqs_off == 0:
        do_IRQ(m, cpu)


IRQ_ENTRIES = as_entries(interrupt, net_stop, raise_irq)
"""What is called from outside."""
