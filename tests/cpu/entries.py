"""What tests of interrupts run: sections with interrupts off, and an allocation that one comes into."""

from emu.cpu.page_alloc import alloc_pages
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.mmzone import Cpu, Machine
from shm.core import as_entries, entry
from shm.point import site

HERE = site("test_irq:irqsave")


@entry
def masked_section(m: Machine, cpu: Cpu) -> int:
    """Interrupt entries seen inside and after a section with interrupts off: inside << 8 | after."""
    flags = local_irq_save(cpu, HERE)
    cpu.irq_pending = 1
    nested = local_irq_save(cpu, HERE)
    local_irq_restore(m, cpu, nested)
    inside = cpu.irq_entries
    local_irq_restore(m, cpu, flags)
    return inside << 8 | cpu.irq_entries


@entry
def alloc_with_pending(m: Machine, cpu: Cpu) -> int:
    """An order-0 allocation; a pending interrupt comes in when rmqueue_pcplist() restores interrupts."""
    cpu.irq_pending = 1
    return alloc_pages(m, cpu, 0xCC0, 0)


ENTRIES = as_entries(masked_section, alloc_with_pending)
