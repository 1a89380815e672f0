"""A short run that is recorded, with a failure in it."""

from emu.cli.page import explained, facts_of
from emu.config import make_config
from emu.html.memory_map import load_counts
from emu.html.page import Page, render
from emu.html.recorder import Recorder, Recording
from emu.run import WorkloadRun
from emu.zone.gfp import __GFP_COMP, __GFP_DIRECT_RECLAIM, GFP_KERNEL
from emu.zone.task_stats import slowpath_total
from shm.core import INTERPRETED

__all__ = ["EVIL", "recorded"]

EVIL = "</script><script>alert('<b>&amp;')"
CAN_NOT_WAIT = (GFP_KERNEL | __GFP_COMP) & ~__GFP_DIRECT_RECLAIM
LOOKS = 12


def recorded(workload: str = "mixed,filecache", fails: bool = True) -> tuple[Recording, str]:
    """The recording, and the page of it. ``fails``: blocks of order 10 are taken until the machine says no."""
    load_counts()
    config = make_config(
        {"cpus": 2, "memory": "64M", "workload": workload, "fill": 0.6, "pin": False, "seed": 7}, "test"
    )
    with WorkloadRun(config) as work:
        machine = work.machine
        recorder = Recorder(machine, work.parts_by_cpu(), work.failed)
        for i in range(LOOKS):
            work.post(100 if INTERPRETED else 2000)
            recorder._samples.take(recorder._sampler.sample)  # whether it is time to or not
            recorder._frames.take(recorder._frame)
            recorder()
            if i == LOOKS // 2 and fails:
                held = []
                while (pfn := machine.alloc_pages(cpu=0, gfp=CAN_NOT_WAIT, order=10)) >= 0:
                    held.append(pfn)
                for pfn in held:
                    machine.free_pages(cpu=0, pfn=pfn, order=10)
        work.release()
        recording = recorder.finish()
        page = Page(
            f"a run {EVIL}", ["emu", "run", EVIL], facts_of(config), {"operations": work.done(), EVIL: EVIL},
            slowpath_total(machine.m), [], [], explained,
        )  # fmt: skip
        return recording, render(page, recording)
