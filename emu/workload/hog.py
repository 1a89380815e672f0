"""``hog``: a process that fills its memory and keeps using it, most of the time a small part.

It locks a little of it, and now and then frees a part and asks for it again.
"""

from emu.mm.mlock import mlock
from emu.mm.mmap import mmap, munmap
from emu.workload.process import alive, end_process, fork, leave, step, switch_to
from emu.workload.run import Run, breathe, random_below
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.mm_types import COMMS, VM_WRITE
from emu.zone.mmzone import Cpu, Machine
from shm.core import core, entry
from shm.point import site

COMM_HOG = COMMS.index("hog")
LOCKED = 64  # one page in so many is locked
PARTS = 4  # of its area; one is freed at a time
S_HOG = site("hog:mmap_lock")
LIFE = 4  # touches of each page, on average, before the process ends and a new one starts


@core
def hog_start(m: Machine, cpu: Cpu, run: Run) -> bool:
    """A new process with one area as large as its share."""
    run.mm = fork(m, cpu, run, run.first_task, COMM_HOG)
    run.position = 0
    run.phase = 0
    return run.mm != 0 and mmap(m, run.mm, 0, run.want, 0, VM_WRITE, 0) >= 0


@core
def hog_free(m: Machine, cpu: Cpu, run: Run) -> None:
    """``free()`` and ``malloc()`` of a quarter: its pages go, and come again when they are touched."""
    size = run.want // PARTS
    start = size * (1 + random_below(run, PARTS - 1))
    if size > 0 and munmap(m, cpu, run.mm, start, size) == 0:
        mmap(m, run.mm, start, size, 0, VM_WRITE, 0)


@core
def hog_touch(m: Machine, cpu: Cpu, run: Run) -> bool:
    """One page: the next of the first pass, later any - nine times of ten among the first eighth."""
    if run.position < run.want:
        run.position += 1
        return step(m, cpu, run, run.mm, run.position - 1, 1)
    run.phase += 1
    if run.phase == 1:
        mlock(m, cpu, run.mm, 0, max(run.want // LOCKED, 1))
    if run.phase % max(run.want, 2) == run.want >> 1:
        hog_free(m, cpu, run)
    slot = random_below(run, run.want)
    if random_below(run, 10) != 0:
        slot = slot >> 3
    return step(m, cpu, run, run.mm, slot, 1 if random_below(run, 3) == 0 else 0)


@entry
def hog(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: the process touches pages; when it ends, is killed or gets no memory, the next one starts."""
    first = run.ops
    critical_enter(cpu, S_HOG)
    if run.mm == 0 and not hog_start(m, cpu, run):
        critical_exit(cpu)
        run.ops += 1
        return 1 if breathe(m, cpu) else 0
    switch_to(m, cpu, run.first_task)
    going = alive(m, cpu, run, run.first_task)
    while going and run.ops - first < budget:
        if not hog_touch(m, cpu, run):
            run.failed += 1
            run.phase = run.want * LIFE
        going = breathe(m, cpu) and alive(m, cpu, run, run.first_task) and run.phase < run.want * LIFE
    leave(m, cpu)
    if not going:
        end_process(m, cpu, run, run.first_task)
        run.mm = 0
        run.rounds += 1
    critical_exit(cpu)
    return max(run.ops - first, 1)
