"""What arguments operations can have on a machine: a scenario that goes beyond ends in one line, not in a crash."""

from collections.abc import Iterable

from emu.race.area import SLOTS, VARIABLES
from emu.race.scenario import Op, ScenarioError
from emu.reclaim.scan_control import DEF_PRIORITY
from emu.zone.ctl_types import MAX_CPUSETS
from emu.zone.init_vm import vm_of
from emu.zone.mmzone import MAX_NR_ZONES, MAX_ORDER, PAGEBLOCK_ORDER, Machine


class Limits:
    """First and last value of each parameter that isn't free, by its name. Not all values between them need be there: a
    hole between zones has page frame numbers, too."""

    def __init__(self, m: Machine) -> None:
        vm, pages = vm_of(m), m.max_pfn
        self.allowed = {
            "slot": (0, SLOTS - 1), "pointer": (0, SLOTS - 1), "var": (0, VARIABLES - 1), "reg": (0, VARIABLES - 1),
            "which": (0, 1), "modulo": (1, 1 << 20), "order": (0, MAX_ORDER - 1), "zoneidx": (0, MAX_NR_ZONES - 1),
            "priority": (0, DEF_PRIORITY), "node": (-1, m.nr_nodes - 1), "cpu": (0, m.nr_cpus - 1),
            "cpuset": (0, MAX_CPUSETS - 1), "file": (1, vm.nr_files), "task": (0, vm.nr_mms - 1),
            "pfn": (0, pages - 1), "start": (0, pages - 1), "pages": (0, pages),
            "block": (0, (pages >> PAGEBLOCK_ORDER) - 1), "blocks": (1, pages >> PAGEBLOCK_ORDER),
        }  # fmt: skip

    def check(self, scenario: str, ops: Iterable[Op]) -> None:
        """Raises ScenarioError for the first argument that can't be."""
        for op in ops:
            for (name, default), value in zip(op.kind.params, op.args, strict=True):
                first, last = self.allowed.get(name, (value, value))
                if name == "node" and default >= 0:
                    first = 0  # it doesn't take -1 for all of them
                if not first <= value <= last:
                    raise ScenarioError(f"{scenario}: {op}: {name} {value}: this machine has {first} to {last}")
