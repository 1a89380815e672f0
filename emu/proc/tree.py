"""One directory that looks like the kernel's own interface, for tools that take another root."""

from emu.proc import buddyinfo, meminfo, pagetypeinfo, vmstat, zoneinfo
from emu.proc.extfrag import render_extfrag, render_unusable
from emu.proc.node import cpu_files, node_files
from emu.proc.state import State

__all__ = ("tree",)

_PROC = (buddyinfo, meminfo, pagetypeinfo, vmstat, zoneinfo)
_DEVICES = "sys/devices/system"


def tree(state: State) -> dict[str, str]:
    """Path below the directory -> text, of a state (without members of lists will do)."""
    files = {f"proc/{module.__name__.rpartition('.')[2]}": module.render(state) for module in _PROC}
    files |= {f"proc/sys/vm/{name}": _sysctl(value) for name, value in state["sysctl"].items()}
    files |= {f"{_DEVICES}/node/{name}": text for name, text in node_files(state).items()}
    files |= {f"{_DEVICES}/cpu/{name}": text for name, text in cpu_files(state).items()}
    files["sys/kernel/debug/extfrag/unusable_index"] = render_unusable(state)
    files["sys/kernel/debug/extfrag/extfrag_index"] = render_extfrag(state)
    return files


def _sysctl(value: int | list[int]) -> str:
    return "\t".join(str(v) for v in (value if isinstance(value, list) else [value])) + "\n"
