"""/sys/devices/system/node: which nodes there are, and what each of them has (``drivers/base/node.c`` (5.10))."""

from collections.abc import Iterable

from emu.proc import numastat
from emu.proc.state import PAGE_SHIFT, State, node_zones, page_state, populated_zones, sum_zone_numa_state

__all__ = ("cpu_files", "node_files", "ranges")

_HPAGE_PMD_NR = 512
_MEMINFO = {
    "Dirty": "nr_dirty", "Writeback": "nr_writeback", "FilePages": "nr_file_pages", "Mapped": "nr_mapped",
    "AnonPages": "nr_anon_pages", "Shmem": "nr_shmem",
}  # fmt: skip
_HUGE = {
    "AnonHugePages": "nr_anon_transparent_hugepages", "ShmemHugePages": "nr_shmem_hugepages",
    "ShmemPmdMapped": "nr_shmem_pmdmapped", "FileHugePages": "nr_file_hugepages", "FilePmdMapped": "nr_file_pmdmapped",
}  # fmt: skip
_ZONE_NORMAL = 2
_LOCAL_DISTANCE, _REMOTE_DISTANCE = 10, 20


def ranges(numbers: Iterable[int]) -> str:
    """``0-3,8`` as ``%*pbl`` prints a mask."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _mask(numbers: Iterable[int], width: int) -> str:
    """``%*pb``: hexadecimal words of 32 bits, as many digits as there may be CPUs."""
    value, words = sum(1 << n for n in numbers), []
    for low in range(0, width, 32):
        digits = -(-min(width - low, 32) // 4)
        words.append(f"{value >> low & 0xFFFFFFFF:0{digits}x}")
    return ",".join(reversed(words))


def cpu_files(state: State) -> dict[str, str]:
    """/sys/devices/system/cpu, as far as tools for NUMA look."""
    online = ranges(range(state["cpus"])) + "\n"
    return {"online": online, "present": online, "possible": ranges(range(state["cpus_possible"])) + "\n"}


def node_files(state: State) -> dict[str, str]:
    """All files below /sys/devices/system/node by their names there."""
    nids = [node["nid"] for node in state["nodes"]]
    memory = [nid for nid in nids if populated_zones(state, nid)]
    normal = [nid for nid in nids if any(zone["zid"] <= _ZONE_NORMAL for zone in populated_zones(state, nid))]
    sets = {
        "online": nids, "possible": nids, "has_memory": memory, "has_normal_memory": normal,
        "has_cpu": set(state["cpu_node"]),
    }  # fmt: skip
    files = {name: ranges(of) + "\n" for name, of in sets.items()}
    for node in state["nodes"]:
        nid = node["nid"]
        cpus = [cpu for cpu, of in enumerate(state["cpu_node"]) if of == nid]
        distances = node.get("distance") or [_LOCAL_DISTANCE if other == nid else _REMOTE_DISTANCE for other in nids]
        files |= {
            f"node{nid}/numastat": numastat.render_node(state, nid),
            f"node{nid}/meminfo": _meminfo(state, nid),
            f"node{nid}/vmstat": _vmstat(state, nid),
            f"node{nid}/distance": " ".join(str(d) for d in distances) + "\n",
            f"node{nid}/cpulist": ranges(cpus) + "\n",
            f"node{nid}/cpumap": _mask(cpus, state["cpus_possible"]) + "\n",
        }
    return files


def _zone_totals(state: State, nid: int) -> dict[str, int]:
    """``sum_zone_node_page_state()`` of each zone counter."""
    zones = [zone for zone in state["zones"] if zone["nid"] == nid]
    names = state["zone_stat_names"]
    return {name: sum(page_state(zone["vm_stat"][item]) for zone in zones) for item, name in enumerate(names)}


def _node_totals(state: State, nid: int) -> dict[str, int]:
    (node,) = (node for node in state["nodes"] if node["nid"] == nid)
    names = state["node_stat_names"]
    return {name: page_state(value) for name, value in zip(names, node["vm_stat"], strict=True)}


def _meminfo(state: State, nid: int) -> str:
    """``node_read_meminfo()``: in KiB, with the node before each name."""
    zone, node = _zone_totals(state, nid), _node_totals(state, nid)
    total = sum(int(z["managed"]) for z in node_zones(state, nid))
    active = {kind: node[f"nr_active_{kind}"] for kind in ("anon", "file")}
    inactive = {kind: node[f"nr_inactive_{kind}"] for kind in ("anon", "file")}
    reclaimable, unreclaimable = node["nr_slab_reclaimable"], node["nr_slab_unreclaimable"]
    pages = {
        "MemTotal": total, "MemFree": zone["nr_free_pages"], "MemUsed": total - zone["nr_free_pages"],
        "Active": sum(active.values()), "Inactive": sum(inactive.values()),
        "Active(anon)": active["anon"], "Inactive(anon)": inactive["anon"],
        "Active(file)": active["file"], "Inactive(file)": inactive["file"],
        "Unevictable": node["nr_unevictable"], "Mlocked": zone["nr_mlock"],
        **{name: node[item] for name, item in _MEMINFO.items()},
    }  # fmt: skip
    lines = {name: value << (PAGE_SHIFT - 10) for name, value in pages.items()}
    lines["KernelStack"] = node["nr_kernel_stack"]
    later = {
        "PageTables": zone["nr_page_table_pages"], "NFS_Unstable": 0, "Bounce": zone["nr_bounce"],
        "WritebackTmp": node["nr_writeback_temp"], "KReclaimable": reclaimable + node["nr_kernel_misc_reclaimable"],
        "Slab": reclaimable + unreclaimable, "SReclaimable": reclaimable, "SUnreclaim": unreclaimable,
        **{name: node[item] * _HPAGE_PMD_NR for name, item in _HUGE.items()},
    }  # fmt: skip
    lines |= {name: value << (PAGE_SHIFT - 10) for name, value in later.items()}
    text = "".join(f"Node {nid} {name + ':':<15} {value:8d} kB\n" for name, value in lines.items())
    huge = {"Total": 0, "Free": 0, "Surp": 0}
    return text + "".join(f"Node {nid} {f'HugePages_{name}:':<16} {value:5d}\n" for name, value in huge.items())


def _vmstat(state: State, nid: int) -> str:
    """``node_read_vmstat()``"""
    numa = {name: sum_zone_numa_state(state, nid, item) for item, name in enumerate(state["numa_stat_names"])}
    values = {**_zone_totals(state, nid), **numa, **_node_totals(state, nid)}
    return "".join(f"{name} {value}\n" for name, value in values.items())
