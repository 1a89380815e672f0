"""/proc/vmstat: the machine's counters, summed over zones, nodes and CPUs."""

from emu.proc.names import CONFIG_VM_EVENTS, VM_EVENTS
from emu.proc.state import PAGE_SHIFT, State, global_node_page_state, global_numa_state, global_zone_page_state

__all__ = ("global_dirty_limits", "render", "values")

_UINT_MAX = (1 << 32) - 1


def render(state: State) -> str:
    """Write the file as mm/vmstat.c:vmstat_show() (5.10) does."""
    return "".join(f"{name} {value}\n" for name, value in values(state).items()) + "nr_unstable 0\n"


def values(state: State) -> dict[str, int]:
    """Return what mm/vmstat.c:vmstat_start() (5.10) collects, by name, in order.

    No counter here includes per-cpu differentials, not even the numa ones, which /proc/zoneinfo does include.
    """
    dirty_threshold, dirty_background_threshold = global_dirty_limits(state)
    return {
        **global_zone_page_state(state),
        **global_numa_state(state),
        **global_node_page_state(state),
        "nr_dirty_threshold": dirty_threshold,
        "nr_dirty_background_threshold": dirty_background_threshold,
        **_vm_events(state),
    }


def global_dirty_limits(state: State) -> tuple[int, int]:
    """Return (thresh, bg_thresh) as mm/page-writeback.c:global_dirty_limits() (5.10), for a reader that is no RT task.

    vm.dirty_ratio and vm.dirty_background_ratio have the kernel's defaults unless state["sysctl"] has them.
    """
    zone, node, sysctl = global_zone_page_state(state), global_node_page_state(state), state["sysctl"]
    free = zone["nr_free_pages"]
    # The kernel adds 1 so that it never divides by 0.
    dirtyable = free - min(free, state["totalreserve_pages"]) + node["nr_inactive_file"] + node["nr_active_file"] + 1
    ratios = sysctl.get("dirty_ratio", 20), sysctl.get("dirty_background_ratio", 10)
    # Both divisions are the kernel's: percent are rounded down to 1/PAGE_SIZE first.
    thresh, bg_thresh = ((((ratio << PAGE_SHIFT) // 100) * dirtyable) >> PAGE_SHIFT for ratio in ratios)
    thresh = min(thresh, _UINT_MAX)
    return thresh, bg_thresh if bg_thresh < thresh else thresh // 2


def _vm_events(state: State) -> dict[str, int]:
    events = state["vm_events"]
    if unknown := sorted(set(events) - set(VM_EVENTS)):
        raise ValueError(f"vm_events that 5.10 does not have: {', '.join(unknown)}")
    shown = {name: int(events.get(name, 0)) for name in VM_EVENTS if name in events or name not in CONFIG_VM_EVENTS}
    # Counted in sectors, shown in KiB.
    shown["pgpgin"] //= 2
    shown["pgpgout"] //= 2
    return shown
