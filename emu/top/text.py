"""A view of a machine as plain text of at most 100 columns: for ``--once``, and what the screen is made of."""

from emu.top.sample import CpuView, View, ZoneView
from emu.zone.mmzone import MAX_ORDER, MIGRATETYPE_NAMES

__all__ = ["BAR", "bar", "block_rows", "cpu_row", "number", "render"]

WIDTH = 100
BAR = 24
MOST_CPUS = 16  # in plain text; the screen scrolls


def number(value: float) -> str:
    """Short: 9500, 12.3k, 4.5M."""
    for unit, scale, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if value >= least:
            return f"{value / scale:.1f}{unit}"
    return f"{value:.0f}"


def bar(zone: ZoneView, width: int = BAR) -> str:
    """How far a zone is from its marks: free pages, full at three times the high watermark. m, l, h: min, low and high
    with the boost."""
    scale = max(3 * (zone.high + zone.boost), 1)
    filled = min(zone.free * width // scale, width)
    cells = ["#"] * filled + ["."] * (width - filled)
    for mark, letter in ((zone.high, "h"), (zone.low, "l"), (zone.min, "m")):
        cells[(mark + zone.boost) * width // scale] = letter
    return "".join(cells)


def block_rows(zone: ZoneView, by_type: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Free blocks by order: one row, or one for each migratetype that has some."""
    if not by_type:
        return [("all", tuple(sum(row) for row in zone.blocks))]
    rows = [(name, tuple(row[mt] for row in zone.blocks)) for mt, name in enumerate(MIGRATETYPE_NAMES)]
    return [(name, counts) for name, counts in rows if any(counts)]


def cpu_row(cpu: CpuView) -> tuple[str, ...]:
    """The columns of a CPU."""
    rates = (cpu.allocated, cpu.freed, cpu.slowpaths, cpu.stalls)
    return cpu.name, *(number(rate) for rate in rates), cpu.state


def _pairs(values: dict[str, float], none: str) -> list[str]:
    """``name 12/s``, several a line."""
    lines, line = [], ""
    for name, value in values.items():
        if value:
            word = f"{name} {number(value)}/s"
            if line and len(line) + 2 + len(word) > WIDTH - 2:
                lines.append(line)
                line = ""
            line = f"{line}  {word}" if line else word
    return [*lines, line] if line else [none]


def render(name: str, v: View, ended: bool = False) -> str:
    """The whole of it. ``ended``: the machine has, this was the last of it."""
    pages = sum(cpu.allocated for cpu in v.cpus)
    what = f"{name}{' has ended' if ended else ''}"
    lines = [f"{what}  {len(v.cpus)} CPUs  {number(pages)} pages/s allocated  over {v.seconds:.1f} s", ""]
    lines.append(f"{'zone':12}{'free':>10} {'of':>10}  {'':{BAR}} {'min':>7}{'low':>8}{'high':>8}{'boost':>7}  state")
    for zone in v.zones:
        lines.append(
            f"{zone.name:12}{zone.free:>10,} {zone.managed:>10,}  {bar(zone)} {zone.min:>7}{zone.low:>8}{zone.high:>8}"
            f"{zone.boost:>7}  {zone.state}"
        )
    lines += ["", f"{'free blocks':24}" + "".join(f"{order:>6}" for order in range(MAX_ORDER))]
    for zone in v.zones:
        for what, counts in block_rows(zone, by_type=True) or [("none", (0,) * MAX_ORDER)]:
            lines.append(f"{zone.name:12}{what:12}" + "".join(f"{number(n):>6}" for n in counts))
    lines += ["", f"{'cpu':8}{'alloc/s':>9}{'free/s':>9}{'slow/s':>9}{'stalls/s':>10}  state"]
    for cpu in v.cpus[:MOST_CPUS]:
        row = cpu_row(cpu)
        lines.append(f"{row[0]:8}{row[1]:>9}{row[2]:>9}{row[3]:>9}{row[4]:>10}  {row[5]}"[:WIDTH])
    if len(v.cpus) > MOST_CPUS:
        lines.append(f"and {len(v.cpus) - MOST_CPUS} more")
    lines += ["", *(f"{daemon.name:12}{daemon.state}" for daemon in v.daemons)]
    lines += ["", *_pairs(v.events, "no reclaim, no compaction")]
    lines += _pairs({"slow path": v.slowpaths, **v.retries}, "nobody in the slow path")
    lines += ["", f"{'lock':24}{'contended/s':>12}{'contended':>12}{'acquired':>14}  mostly at"]
    for lock in v.locks:
        lines.append(
            f"{lock.name:24}{number(lock.contended):>12}{lock.contentions:>12,}{lock.acquisitions:>14,}  {lock.at}"
        )
    return "\n".join(lines if v.locks else [*lines[:-2], "", "no lock was waited for"]) + "\n"
