"""The kernel's memory files, written from a plain-data state as Linux 5.10 writes them.

One module per file, each with `render(state) -> str`: buddyinfo, meminfo, numastat, pagetypeinfo, vmstat, zoneinfo.
`state` says what a state is; `names` has the name tables. Nothing here reads or writes a file or a machine.
"""

from emu.proc import buddyinfo, meminfo, numastat, pagetypeinfo, vmstat, zoneinfo
from emu.proc.state import State, list_length, pageblock_counts

__all__ = ("FILES", "State", "list_length", "pageblock_counts", "render")

_RENDER = {
    "buddyinfo": buddyinfo.render,
    "meminfo": meminfo.render,
    "numastat": numastat.render,
    "pagetypeinfo": pagetypeinfo.render,
    "vmstat": vmstat.render,
    "zoneinfo": zoneinfo.render,
}

FILES: tuple[str, ...] = tuple(_RENDER)


def render(name: str, state: State) -> str:
    """Return the text of the file `name`, one of FILES."""
    if name not in _RENDER:
        raise ValueError(f"no file {name!r}: choose from {', '.join(FILES)}")
    return _RENDER[name](state)
