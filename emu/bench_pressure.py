"""What ``emu bench`` measures of a machine that is short of memory: slow path, reclaim, compaction, kswapd.

Every figure is of one CPU process beside the machine's daemons (kswapd, kcompactd, the disk, ...), each a process too;
the disk takes no time of its own. Figures are medians.
"""

import statistics
from collections.abc import Callable
from typing import Any

from emu.config import make_config
from emu.machine import Machine
from emu.mm.filemap import create_file
from emu.workload import pressure_bench as core
from emu.zone.board import Board
from emu.zone.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL, GFP_NOWAIT
from emu.zone.init_vm import vm_of
from emu.zone.mm_types import AS_FILE
from emu.zone.mmzone import Node
from emu.zone.sched import Task
from shm.struct import address_of, record_at

__all__ = ["MEASURED", "Result"]

Result = dict[str, Any]

ROUNDS = 7
KSWAPD_PASSES = 15
SLOW_ALLOCS = 2_000
FILLS = 50
MIB = {"slowpath": 256, "reclaim": 512, "compaction": 512, "kswapd": 1024}
PAGEBLOCK = 512
CMD = 16


def _handler(entry: Callable[..., int], nr_args: int) -> Callable[[Board, int], int]:
    """An entry as a command of a CPU's process."""

    def serve(board: Board, index: int) -> int:
        cpu = board.cpu(index)
        return entry(board.m, cpu, *list(cpu.command_args)[:nr_args])

    return serve


CALLS: tuple[tuple[Callable[..., int], int], ...] = (
    (core.fill, 0), (core.slow_allocs, 2), (core.read_file, 2), (core.anon_pages, 3), (core.reclaim, 1),
    (core.compact, 1), (core.kswapd_pass, 1),
)  # fmt: skip


class Bench:
    """A machine with one CPU and an idle disk. Use as a context manager."""

    def __init__(self, key: str, **values: Any) -> None:
        config = make_config({"cpus": 1, "memory": MIB[key] << 20, **values}, key)
        handlers = {CMD + i: _handler(entry, nr) for i, (entry, nr) in enumerate(CALLS)}
        self.machine = Machine(config, handlers=handlers)
        self.m = self.machine.m
        self.pages = MIB[key] << 8
        self.cpu = self.machine.board.cpu(0)
        disk = vm_of(self.m).disk
        disk.latency_ns, disk.page_ns = 0, 0

    def call(self, entry: Callable[..., int], *args: int) -> int:
        """Call an entry on the CPU's process."""
        self.machine.post(0, CMD + [e for e, _ in CALLS].index(entry), *args)
        return self.machine.wait([0])[0]

    def second(self) -> int:
        """What the last call left beside its result."""
        return int(self.cpu.command_args[0])

    def file(self, pages: int) -> int:
        """A file on the disk, all of it in the page cache."""
        number = create_file(self.m, AS_FILE, pages)
        read = self.call(core.read_file, number, pages)
        if read != pages:
            raise RuntimeError(f"{read} of the {pages} pages of a file were read")
        self.machine.settle()
        return number

    def fill_up(self, gfp: int) -> None:
        """Allocate everything. kswapd wakes up, sees that there is nothing to do for it, and gives back what it had."""
        for _ in range(FILLS):
            self.call(core.fill)
            if self.call(core.slow_allocs, gfp, SLOW_ALLOCS) >= 0:
                self.machine.settle()
                if self.call(core.slow_allocs, gfp, SLOW_ALLOCS) >= 0:
                    return
        raise RuntimeError("the machine doesn't get full")

    def __enter__(self) -> "Bench":
        self.machine.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.stop()


def _slowpath() -> Result:
    """ns of a pass through the slow path with nothing to reclaim, of an allocation that may not reclaim and of one that
    tries it once."""
    result: Result = {"key": "slowpath", "gib": MIB["slowpath"] / 1024}
    with Bench("slowpath") as b:
        task = record_at(Task, address_of(b.m) + b.cpu.current)
        for name, gfp in (("nowait_ns", GFP_NOWAIT), ("noretry_ns", GFP_KERNEL | __GFP_NORETRY)):
            b.fill_up(gfp | __GFP_NOWARN)
            times = []
            for _ in range(ROUNDS):
                passes = task.slowpaths + task.retries
                ns = b.call(core.slow_allocs, gfp | __GFP_NOWARN, SLOW_ALLOCS)
                if ns < 0:
                    raise RuntimeError("a full machine had a page")
                times.append(ns / (task.slowpaths + task.retries - passes))
            result[name] = statistics.median(times)
    return result


def _rate(b: Bench, pages: int) -> float:
    """Pages that direct reclaim frees in a second, of so many."""
    ns = b.call(core.reclaim, pages)
    if not 0 < pages <= b.second() + pages // 2:
        raise RuntimeError(f"{b.second()} of {pages} pages were reclaimed")
    return b.second() * 1e9 / ns


def _reclaim() -> Result:
    """Pages that one CPU's direct reclaim frees in a second: clean page cache, and anonymous memory to swap."""
    size = MIB["reclaim"]
    with Bench("reclaim") as b:
        pages = b.pages // 2
        b.file(pages)
        cache = [_rate(b, pages // (2 * ROUNDS)) for _ in range(ROUNDS)]
    with Bench("reclaim", swap=size << 20, sysctl={"swappiness": 100}) as b:
        pages = b.call(core.anon_pages, 0, b.pages // 2, 1)
        anon = [_rate(b, pages // (2 * ROUNDS)) for _ in range(ROUNDS)]
    return {
        "key": "reclaim", "gib": size / 1024, "file_pages_per_second": statistics.median(cache),
        "anon_pages_per_second": statistics.median(anon),
    }  # fmt: skip


def _whole_blocks(node: Node) -> int:
    """Pageblocks whose pages are all free."""
    return sum(
        zone.free_area[order].nr_free << (order - 9) for zone in node.node_zones for order in (9, 10)
    )  # fmt: skip


def _compaction() -> Result:
    """Pageblocks that compaction of a node makes free in a second: of three pages one is movable anonymous memory.

    Of two it can't be: once the free scanner has met a block without a free page it looks at every 32nd page only.
    """
    blocks, moved = [], []
    for _ in range(max(ROUNDS // 2, 1)):
        with Bench("compaction") as b:
            b.call(core.anon_pages, 0, b.pages * 3 // 4, 3)
            node = b.m.nodes[0]
            before, migrated = _whole_blocks(node), _events(b, "pgmigrate_success")
            ns = b.call(core.compact, 0)
            blocks.append((_whole_blocks(node) - before) * 1e9 / ns)
            moved.append((_events(b, "pgmigrate_success") - migrated) * 1e9 / ns)
    return {
        "key": "compaction", "gib": MIB["compaction"] / 1024, "pageblocks_per_second": statistics.median(blocks),
        "migrated_per_second": statistics.median(moved),
    }  # fmt: skip


def _events(b: Bench, name: str) -> int:
    return int(b.machine.state(light=True)["vm_events"][name])


def _kswapd() -> Result:
    """From wakeup_kswapd() with all zones at their low end to the high watermark, and until kswapd has the request."""
    woken, balanced, filled = [], [], []
    with Bench("kswapd") as b:
        b.file(b.pages * 3 // 4)
        b.call(core.fill)
        for _ in range(KSWAPD_PASSES):
            ns = b.call(core.kswapd_pass, 0)
            if ns == 0:
                raise RuntimeError("kswapd didn't balance the node")
            woken.append(b.second() / 1000)
            balanced.append(ns / 1000)
            b.machine.settle()
            filled.append(b.call(core.fill))
    return {
        "key": "kswapd", "gib": MIB["kswapd"] / 1024, "wake_us": statistics.median(woken),
        "balance_us": statistics.median(balanced), "pages": int(statistics.median(filled)),
    }  # fmt: skip


MEASURED: dict[str, Callable[[], Result]] = {
    "slowpath": _slowpath, "reclaim": _reclaim, "compaction": _compaction, "kswapd": _kswapd,
}  # fmt: skip
