"""``filecache``: a file larger than its share of memory, one in tmpfs, and the names of many others.

The large file is streamed through, with a part that is read again and again. Looking up names leaves dentries and
inodes behind, which the slab shrinker takes back.
"""

from emu.mm.slab import kmem_cache_alloc, object_get, object_put
from emu.mm.vfs import vfs_read, vfs_write
from emu.workload.run import SLOT_SIZE, Run, breathe, random_below, slot_at
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.gfp import GFP_KERNEL
from emu.zone.mmzone import Cpu, Machine
from emu.zone.slab_types import CACHE_DENTRY, CACHE_INODE
from shm.core import core, entry
from shm.point import site

HOT = 16  # one page in so many belongs to the part that is read again
NAMES = 64  # that are looked up again and again
S_FILECACHE = site("filecache:i_rwsem")
KNOWN = -2  # a slot that remembers a name holds no page


@core
def new_object(m: Machine, cpu: Cpu, cache: int) -> int:
    """An object that is cached, and used by nobody any more: its number, 0 without memory for it."""
    obj = kmem_cache_alloc(m, cpu, cache, GFP_KERNEL)
    if obj != 0:
        object_put(m, cpu, obj)
    return obj


@core
def look_up(m: Machine, cpu: Cpu, run: Run) -> bool:
    """A name: one of those known, if it still is cached, or a new one with its inode; false without memory for it."""
    slot = slot_at(m, run.slots + random_below(run, NAMES) * SLOT_SIZE)
    if slot.pfn == KNOWN and random_below(run, 4) != 0 and object_get(m, cpu, slot.order):
        object_put(m, cpu, slot.order)
        return True
    dentry = new_object(m, cpu, CACHE_DENTRY)
    slot.pfn = KNOWN if dentry != 0 else -1
    slot.order = dentry
    return dentry != 0 and new_object(m, cpu, CACHE_INODE) != 0


@core
def filecache_step(m: Machine, cpu: Cpu, run: Run) -> bool:
    """One operation: of 32, four read a hot page, two write, two use tmpfs, one looks up a name; the others read on."""
    what = random_below(run, 32)
    if what < 4:
        return vfs_read(m, cpu, run.file, random_below(run, max(run.want // HOT, 1))) >= 0
    if what < 6:
        return vfs_write(m, cpu, run.file, random_below(run, run.want)) >= 0
    if what < 8:
        page = random_below(run, max(run.want >> 4, 1))
        return (vfs_write(m, cpu, run.tmpfs, page) if what == 6 else vfs_read(m, cpu, run.tmpfs, page)) >= 0
    if what == 8:
        return look_up(m, cpu, run)
    at = run.position
    run.position = at + 1
    if run.position >= run.want:
        run.position = 0
        run.rounds += 1
    return vfs_read(m, cpu, run.file, at) >= 0


@entry
def filecache(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of reads, writes and lookups."""
    first = run.ops
    critical_enter(cpu, S_FILECACHE)
    while run.ops - first < budget:
        if not filecache_step(m, cpu, run):
            run.failed += 1
        run.ops += 1
        if not breathe(m, cpu):
            break
    critical_exit(cpu)
    return max(run.ops - first, 1)
