"""Switching the swap device on and off (``mm/swapfile.c`` (5.10)).

The device and its tables are there from the machine's boot on; slot 0, the header, says how large they are.

Differs from 5.10: ``swapoff`` of a device with slots in use fails, where the kernel reads their pages back
(``try_to_unuse()``).
"""

from emu.mm.swapfile import EINVAL
from emu.zone.mm_types import slot_at, vm_at
from emu.zone.mmzone import Cpu, Machine
from shm.core import core, entry
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

EBUSY = 16
S_ON = site("swapon:lock")
S_OFF = site("swapoff:lock")


@core
def swap_header_pages(m: Machine) -> int:
    """``swap_header.info.last_page``: slots of the device, its header not among them."""
    return slot_at(m, vm_at(m, m.vm).swap.swap_cache).value >> 2


@entry
def swapon(m: Machine, cpu: Cpu, pages: int) -> int:
    """``mm/swapfile.c:swapon() (5.10)``: use so many slots of the device; 0: all. -EBUSY when it is on already,
    -EINVAL when it has fewer, or there is none."""
    swap = vm_at(m, m.vm).swap
    last = swap_header_pages(m)
    if last == 0 or pages < 0 or pages > last:
        return -EINVAL
    err = -EBUSY
    spin_lock(cpu.party, swap.si_lock, S_ON)
    if swap.pages == 0:
        swap.pages = pages if pages != 0 else last
        swap.lowest_bit = 1
        swap.highest_bit = swap.pages
        swap.cluster_next = 1
        swap.cluster_nr = 0
        err = 0
    spin_unlock(cpu.party, swap.si_lock)
    return err


@entry
def swapoff(m: Machine, cpu: Cpu) -> int:
    """``mm/swapfile.c:swapoff() (5.10)``: no slot is given out any more. -EINVAL when it isn't on, -EBUSY while slots
    are in use."""
    swap = vm_at(m, m.vm).swap
    err = 0
    spin_lock(cpu.party, swap.si_lock, S_OFF)
    if swap.pages == 0:
        err = -EINVAL
    elif swap.inuse_pages != 0:
        err = -EBUSY
    else:
        swap.pages = 0
        swap.highest_bit = 0
    spin_unlock(cpu.party, swap.si_lock)
    return err
