"""Building the zonelists, at boot and whenever a zone gets its first memory or loses its last (``mm/page_alloc.c``
(5.10.262)).

The lists are rewritten in place while others walk them. Who finds nothing on its walk learns from
``Vm.zonelist_update_seq`` that it may have seen a list half old and half new.
"""

from emu.zone.deviations import R7, deviates
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_NUMNODES, MIGRATE_TYPES, PAGEBLOCK_NR_PAGES, Cpu, Machine, Node, Zonelist, cpu_record, zone_at,
    zonelist_at,
)  # fmt: skip
from emu.zone.mmzone import CPU_SIZE, ZONE_MOVABLE
from emu.zone.watermark import high_wmark_pages
from shm.atomic import address, fetch_add, smp_mb
from shm.core import OnStack, core, entry
from shm.point import point, site
from shm.struct import Array, Struct, array, i64, struct

PENALTY_FOR_NODE_WITH_CPUS = 1
NUMA_NO_NODE = -1
ZONELIST_FALLBACK = 0
ZONELIST_NOFALLBACK = 1
S_REBUILD = site("build_all_zonelists:irqsave")
S_ZONEREF = site("build_zonerefs_node:write zoneref")
S_DONE = site("build_all_zonelists:write_sequnlock")


@struct
class NodeOrder(Struct):
    """What one rebuild keeps of the nodes: their load, and the order for one node."""

    node_load: Array[int] = array(i64, MAX_NUMNODES)
    node_order: Array[int] = array(i64, MAX_NUMNODES)


node_orders = OnStack(NodeOrder)


@core
def nodes_with_cpus(m: Machine) -> int:
    """Bit mask of the nodes whose ``cpumask_of_node()`` isn't empty."""
    mask = 0
    for i in range(m.nr_cpus):
        other = cpu_record(m, m.cpus + i * CPU_SIZE)
        if other.online != 0:
            mask |= 1 << other.node
    return mask


@core
def find_next_best_node(m: Machine, o: NodeOrder, node: int, used: int, with_cpus: int) -> int:
    """``mm/page_alloc.c:find_next_best_node() (5.10)``: the nearest node with memory that isn't used yet, or -1.

    Among equals the next higher one, one without CPUs, the less loaded one, in this order of importance (the first two
    count as distance).
    """
    if used >> node & 1 == 0:
        return node
    best = NUMA_NO_NODE
    least = 0
    for n in range(m.nr_nodes):
        if m.nodes[n].node_present_pages == 0 or used >> n & 1 != 0:
            continue
        val = m.nodes[node].distance[n]
        if n < node:
            val += 1
        if with_cpus >> n & 1 != 0:
            val += PENALTY_FOR_NODE_WITH_CPUS
        val = val * (m.nr_online_nodes * MAX_NUMNODES) + o.node_load[n]
        if best == NUMA_NO_NODE or val < least:
            least = val
            best = n
    return best


@core
def build_zonerefs_node(m: Machine, cpu: Cpu, node: Node, zonelist: Zonelist, n: int) -> int:
    """``mm/page_alloc.c:build_zonerefs_node() (5.10)``: the node's populated zones, highest first, from zoneref ``n``.

    Returns the next zoneref. The highest zone of all is the policy zone (``check_highest_zone()``).
    """
    for i in range(MAX_NR_ZONES):
        zid = MAX_NR_ZONES - 1 - i
        zone = node.node_zones[zid]
        if zone.present_pages == 0:
            continue
        point(cpu.party, S_ZONEREF)
        ref = zonelist.zonerefs[n]
        ref.zone = address(zone) - address(m)
        ref.zone_idx = zid
        ref.node = node.node_id
        n += 1
        if zid > m.policy_zone and zid != ZONE_MOVABLE:
            m.policy_zone = zid
    return n


@core
def end_zonelist(cpu: Cpu, zonelist: Zonelist, n: int) -> None:
    """The end mark: no zone, and an index that every request accepts."""
    point(cpu.party, S_ZONEREF)
    ref = zonelist.zonerefs[n]
    ref.zone = 0
    ref.zone_idx = 0


@core
def build_zonelists(m: Machine, cpu: Cpu, o: NodeOrder, local_node: int, with_cpus: int) -> None:
    """``mm/page_alloc.c:build_zonelists() (5.10)`` of one node: nearest nodes first, and its own zones alone.

    The first node of each distance gets a load, so that not everybody's fallback goes to the same one.
    """
    load = m.nr_online_nodes
    prev_node = local_node
    used = 0
    nr_nodes = 0
    node = find_next_best_node(m, o, local_node, used, with_cpus)
    while node != NUMA_NO_NODE:
        used |= 1 << node
        local = m.nodes[local_node]
        if local.distance[node] != local.distance[prev_node]:
            o.node_load[node] = load
        o.node_order[nr_nodes] = node
        nr_nodes += 1
        prev_node = node
        load -= 1
        node = find_next_best_node(m, o, local_node, used, with_cpus)
    fallback = m.nodes[local_node].node_zonelists[ZONELIST_FALLBACK]
    n = 0
    for i in range(nr_nodes):
        n = build_zonerefs_node(m, cpu, m.nodes[o.node_order[i]], fallback, n)
    end_zonelist(cpu, fallback, n)
    own = m.nodes[local_node].node_zonelists[ZONELIST_NOFALLBACK]
    end_zonelist(cpu, own, build_zonerefs_node(m, cpu, m.nodes[local_node], own, 0))


@entry
def __build_all_zonelists(m: Machine, cpu: Cpu) -> None:
    """``mm/page_alloc.c:__build_all_zonelists() (5.10.262)``: all nodes' lists under ``zonelist_update_seq``.

    Interrupts are off: one that allocates would wait for the sequence to become even, here, for ever. 1007843a9190
    switched them off; without it (R7) they stay as they are. Differs from 5.10: ``mem_hotplug_lock``, which every
    caller at run time holds, stands in for the seqlock's own spinlock.
    """
    vm = vm_at(m, m.vm)
    flags = cpu.party.irqs_off if deviates(m, R7) else local_irq_save(cpu, S_REBUILD)
    fetch_add(vm, "zonelist_update_seq", 1)
    smp_mb()
    o = node_orders()
    with_cpus = nodes_with_cpus(m)
    for nid in range(m.nr_nodes):
        build_zonelists(m, cpu, o, nid, with_cpus)
    point(cpu.party, S_DONE)
    fetch_add(vm, "zonelist_update_seq", 1)
    local_irq_restore(m, cpu, flags)


@core
def nr_free_zone_pages(m: Machine, cpu: Cpu, highest_zoneidx: int) -> int:
    """``mm/page_alloc.c:nr_free_zone_pages() (5.10)``: managed pages above high watermarks, in zones up to an index."""
    zonelist = zonelist_at(m, address(m.nodes[cpu.node].node_zonelists[ZONELIST_FALLBACK]) - address(m))
    total = 0
    z = 0
    while zonelist.zonerefs[z].zone != 0:
        ref = zonelist.zonerefs[z]
        if ref.zone_idx <= highest_zoneidx:
            zone = zone_at(m, ref.zone)
            total += max(0, zone.managed_pages - high_wmark_pages(zone))
        z += 1
    return total


@core(cold=True)
def build_all_zonelists(m: Machine, cpu: Cpu) -> None:
    """``mm/page_alloc.c:build_all_zonelists() (5.10)`` at run time: the lists, and whether there is memory enough to
    group pages by mobility."""
    __build_all_zonelists(m, cpu)
    total = nr_free_zone_pages(m, cpu, ZONE_MOVABLE)
    m.page_group_by_mobility_disabled = 1 if total < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES else 0
