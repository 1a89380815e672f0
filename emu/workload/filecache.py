"""``filecache``: a file larger than its share of memory is streamed through; a part of it is read over and over."""

from emu.mm.filemap import generic_file_read, generic_file_write
from emu.workload.run import Run, breathe, random_below
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mmzone import Cpu, Machine
from shm.core import core, entry

HOT = 16  # one page in so many belongs to the part that is read again


@core
def filecache_step(m: Machine, cpu: Cpu, run: Run) -> None:
    """One page of the file: 12 % a hot one, 6 % written, otherwise the next."""
    what = random_below(run, 16)
    err = 0
    if what < 2:
        err = generic_file_read(m, cpu, run.file, random_below(run, max(run.want // HOT, 1)), GFP_HIGHUSER_MOVABLE)
    elif what == 2:
        err = generic_file_write(m, cpu, run.file, random_below(run, run.want))
    else:
        err = generic_file_read(m, cpu, run.file, run.position, GFP_HIGHUSER_MOVABLE)
        run.position = run.position + 1
        if run.position >= run.want:
            run.position = 0
            run.rounds += 1
    run.ops += 1
    if err < 0:
        run.failed += 1


@entry
def filecache(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of reads and writes."""
    first = run.ops
    while run.ops - first < budget:
        filecache_step(m, cpu, run)
        if not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
