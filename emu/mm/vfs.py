"""Reading and writing a file, whatever its kind (``fs/read_write.c`` (5.10))."""

from emu.mm.filemap import generic_file_read, generic_file_write
from emu.mm.shmem import shmem_file_read, shmem_file_write
from emu.mm.vma import file_offset
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mm_types import AS_NONE, AS_SHMEM, file_record
from emu.zone.mmzone import Cpu, Machine
from shm.core import core

EBADF = 9


@core
def vfs_read(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``vfs_read()`` of one page: 0 or -errno."""
    kind = file_record(m, file_offset(m, file)).kind
    if kind == AS_NONE:
        return -EBADF
    if kind == AS_SHMEM:
        return shmem_file_read(m, cpu, file, index)
    return generic_file_read(m, cpu, file, index, GFP_HIGHUSER_MOVABLE)


@core
def vfs_write(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``vfs_write()`` of one page: 0 or -errno."""
    kind = file_record(m, file_offset(m, file)).kind
    if kind == AS_NONE:
        return -EBADF
    if kind == AS_SHMEM:
        return shmem_file_write(m, cpu, file, index)
    return generic_file_write(m, cpu, file, index)
