"""Global variables of the kernel, made when they are read: each has an address, as in the kernel.

What 5.10 sums up for the machine as it goes (``vm_zone_stat``) is summed up here at that moment.
"""

import ctypes
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import drgn

from emu.drgn.memory import BASE, NAMES_AT, ZONE_NAME_SIZE
from emu.drgn.types import TypeMaker
from emu.zone.board import Board
from emu.zone.init import party_of, zones_of
from emu.zone.mmzone import (
    MIGRATETYPE_NAMES,
    NR_VM_EVENTS,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
    Machine,
    Node,
    Page,
)  # fmt: skip
from emu.zone.page import PAGE_FLAG_NAMES
from emu.zone.types import AtomicLong
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, VM_EVENT_NAMES, ZONE_STAT_NAMES
from shm.struct import address_of

__all__ = ["Variables"]

VARIABLES_AT = 0xFFFF_FFFF_8300_0000
PER_CPU_SIZE = 4096  # from one CPU's area to the next's
ENUMS: dict[str, dict[str, int]] = {
    "zone_watermarks": {"WMARK_MIN": 0, "WMARK_LOW": 1, "WMARK_HIGH": 2},
    "zone_type": {f"ZONE_{name.upper()}": zid for zid, name in enumerate(ZONE_NAMES)},
    "migratetype": {f"MIGRATE_{name.upper()}": mt for mt, name in enumerate(MIGRATETYPE_NAMES)},
    "zone_stat_item": {name.upper(): item for item, name in enumerate(ZONE_STAT_NAMES)},
    "node_stat_item": {name.upper(): item for item, name in enumerate(NODE_STAT_NAMES)},
    "numa_stat_item": {name.upper(): item for item, name in enumerate(NUMA_STAT_NAMES)},
    "vm_event_item": {name.upper(): item for item, name in enumerate(VM_EVENT_NAMES)},
    "pageflags": {f"PG_{name}": mask.bit_length() - 1 for name, mask in PAGE_FLAG_NAMES.items()},
    "node_states": {"N_POSSIBLE": 0, "N_ONLINE": 1},
}  # fmt: skip
CONSTANTS = {"PAGE_SHIFT": PAGE_SHIFT, "PAGE_SIZE": 1 << PAGE_SHIFT, "pageblock_order": PAGEBLOCK_ORDER,
             "ARCH_PFN_OFFSET": 0}  # fmt: skip


def _longs(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _bitmap(bits: Iterable[int], nr_bits: int) -> bytes:
    return sum(1 << bit for bit in bits).to_bytes(8 * -(-nr_bits // 64), "little")


class Variables:
    """Those of one machine; ``prog`` finds them by name."""

    def __init__(self, prog: drgn.Program, board: Board, types: TypeMaker) -> None:
        self.prog, self.m, self.types = prog, board.m, types
        self.objects: dict[str, drgn.Object] = {}
        self.enums = {tag: self._enum(tag, values) for tag, values in ENUMS.items()}
        self.next = VARIABLES_AT
        m, long = board.m, types.of(ctypes.c_uint64)
        self.objects["machine"] = drgn.Object(prog, types.of(Machine), address=BASE)
        for name, value in CONSTANTS.items():
            self.objects[name] = drgn.Object(prog, long if name == "ARCH_PFN_OFFSET" else "int", value)
        for name in ("max_pfn", "max_mapnr"):
            self._add(name, long, lambda: _longs([m.max_pfn]))
        for name, number in (("nr_node_ids", m.nr_nodes), ("nr_cpu_ids", m.nr_cpus)):
            self._add(name, types.of(ctypes.c_uint32), partial(number.to_bytes, 4, "little"))
        self._add("vmemmap", prog.pointer_type(types.of(Page)), lambda: self._pointers([m.mem_map]))
        self._add(
            "node_data", prog.array_type(prog.pointer_type(types.of(Node)), m.nr_nodes),
            lambda: self._pointers([address_of(m.nodes[nid]) - address_of(m) for nid in range(m.nr_nodes)]),
        )  # fmt: skip
        self._add_counters()
        self._add_masks()
        self._add_per_cpu()
        release = b"OSRELEASE=5.10.262\n\0"  # drgn looks here for where PageSlab() is
        self._add("VMCOREINFO", prog.array_type(types.of(ctypes.c_char), len(release)), lambda: release)
        names = b"".join(name.encode().ljust(ZONE_NAME_SIZE, b"\0") for name in ZONE_NAMES)
        prog.add_memory_segment(NAMES_AT, len(names), _reader(lambda: names))

    def find(self, name: str, flags: drgn.FindObjectFlags) -> drgn.Object | None:
        """A variable or an enumerator."""
        if flags & drgn.FindObjectFlags.CONSTANT:
            for tag, values in ENUMS.items():
                if name in values:
                    return drgn.Object(self.prog, self.enums[tag], values[name])
        if flags & (drgn.FindObjectFlags.VARIABLE | drgn.FindObjectFlags.CONSTANT):
            return self.objects.get(name)
        return None

    def _add(self, name: str, kind: drgn.Type, value: Callable[[], bytes], size: int = 0) -> None:
        """A variable of ``size`` bytes in all, where that isn't its type's."""
        prog, size = self.prog, size or drgn.sizeof(kind)
        prog.add_memory_segment(self.next, size, _reader(value))
        self.objects[name] = drgn.Object(prog, kind, address=self.next)
        self.next += size + -size % 4096

    def _enum(self, tag: str, values: dict[str, int]) -> drgn.Type:
        enumerators = [drgn.TypeEnumerator(name, value) for name, value in values.items()]
        return self.prog.enum_type(tag, self.prog.int_type("unsigned int", 4, False), enumerators)

    def _pointers(self, offsets: Sequence[int]) -> bytes:
        return struct.pack(f"<{len(offsets)}Q", *(BASE + offset for offset in offsets))

    def _add_counters(self) -> None:
        """Of all zones and nodes together."""
        m, counter = self.m, self.types.of(AtomicLong)

        def sums(rows: Iterable[Any]) -> bytes:
            return _longs([sum(column) for column in zip(*([i.counter for i in row] for row in rows), strict=True)])

        nodes = [m.nodes[nid] for nid in range(m.nr_nodes)]
        for name, number, value in (
            ("vm_zone_stat", len(ZONE_STAT_NAMES), lambda: sums(z.vm_stat for z in zones_of(m))),
            ("vm_numa_stat", len(NUMA_STAT_NAMES), lambda: sums(z.numa_stat for z in zones_of(m))),
            ("vm_node_stat", len(NODE_STAT_NAMES), lambda: sums(node.vm_stat for node in nodes)),
        ):
            self._add(name, self.prog.array_type(counter, number), value)
        self._add("_totalram_pages", counter, lambda: _longs([sum(z.managed_pages for z in zones_of(m))]))

    def _online_cpus(self) -> list[int]:
        return [i for i in range(self.m.nr_cpus) if party_of(self.m, i).online]

    def _add_masks(self) -> None:
        """CPUs and nodes: which there may be, which are online."""
        m, mask = self.m, self.types.bits("cpumask", self.m.nr_cpus)
        every = range(m.nr_cpus)
        for name in ("__cpu_possible_mask", "__cpu_present_mask"):
            self._add(name, mask, lambda: _bitmap(every, m.nr_cpus))
        self._add("__cpu_online_mask", mask, lambda: _bitmap(self._online_cpus(), m.nr_cpus))
        nodes = range(m.nr_nodes)
        self._add(
            "node_states", self.prog.array_type(self.types.bits("nodemask_t", m.nr_nodes), 2),
            lambda: _bitmap(nodes, 64) + _bitmap((nid for nid in nodes if m.nodes[nid].online), 64),
        )  # fmt: skip

    def _add_per_cpu(self) -> None:
        """``vm_event_states``. In 5.10 kswapd counts on the CPU where it happens to run, and a CPU that goes offline
        leaves its counts to another: here the first CPU that is online has the daemons' and those of who is gone."""
        m, prog, long = self.m, self.prog, self.types.of(ctypes.c_uint64)

        def events() -> bytes:
            online = self._online_cpus()
            counts = {i: list(party_of(m, i).vm_events) for i in range(m.nr_parties)}
            for i in set(counts) - set(online):
                counts[online[0]] = [a + b for a, b in zip(counts[online[0]], counts[i], strict=True)]
            return b"".join(
                _longs(counts[i] if i in online else [0] * NR_VM_EVENTS).ljust(PER_CPU_SIZE, b"\0")
                for i in range(m.nr_cpus)
            )

        array = prog.array_type(long, NR_VM_EVENTS)
        state = prog.struct_type("vm_event_state", drgn.sizeof(array), [drgn.TypeMember(array, "event")])
        self._add("vm_event_states", state, events, m.nr_cpus * PER_CPU_SIZE)
        self._add(
            "__per_cpu_offset", prog.array_type(long, m.nr_cpus),
            lambda: _longs([i * PER_CPU_SIZE for i in range(m.nr_cpus)]),
        )  # fmt: skip


def _reader(value: Callable[[], bytes]) -> Callable[[int, int, int, bool], bytes]:
    def read(_address: int, count: int, offset: int, _physical: bool) -> bytes:
        return value()[offset : offset + count]

    return read
