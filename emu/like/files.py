"""Reading files of /proc and /sys: their lines, numbers and lists. What is wrong is said with file and line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from emu.config import Sysctl

__all__ = ["LikeError", "cpu_nodes", "lines_of", "number", "numbers", "read_sysctls", "root_of"]

MOST = 1 << 40  # no count here is larger
SYSCTLS = (
    "min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor", "percpu_pagelist_fraction",
    "zone_reclaim_mode", "swappiness", "lowmem_reserve_ratio",
)  # fmt: skip
_LIST = re.compile(r"(\d+(-\d+)?(,\d+(-\d+)?)*)?", re.ASCII)


class LikeError(ValueError):
    """Files that describe no machine: which, in which line, and why."""


def root_of(directory: Path) -> Path:
    """The directory with zoneinfo: the one given, or proc in it."""
    for root in (directory, directory / "proc"):
        if (root / "zoneinfo").is_file():
            return root
    raise LikeError(f"{directory}: no zoneinfo there, nor in proc below it")


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Lines without blanks around them, and where each is: ``file:number``."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise LikeError(f"{path}: not a text file") from None
    for at, line in enumerate(text.splitlines(), 1):
        yield line.strip(), f"{path}:{at}"


def number(word: str, where: str) -> int:
    """A count as the kernel prints it."""
    if not (word.isascii() and word.isdigit()) or len(word) > len(str(MOST)) or int(word) > MOST:
        raise LikeError(f"{where}: not a count: {word[:40]!r}")
    return int(word)


def numbers(words: Sequence[str], count: int, where: str) -> list[int]:
    """So many of them."""
    if len(words) < count:
        raise LikeError(f"{where}: {len(words)} numbers instead of {count}: cut short?")
    return [number(word, where) for word in words[:count]]


def read_sysctls(root: Path) -> dict[str, list[int]]:
    """Those of sys/vm that a state has, as far as they are there."""
    found = {}
    for name in SYSCTLS:
        path = root / "sys" / "vm" / name
        if path.is_file():
            line, where = next(lines_of(path), ("", f"{path}:1"))
            found[name] = numbers(line.split(), 1, where) + [number(word, where) for word in line.split()[1:]]
            _check_sysctl(name, found[name], where)
    return found


def _check_sysctl(name: str, values: list[int], where: str) -> None:
    ratio = name == "lowmem_reserve_ratio"  # one for each zone but the highest of that kernel
    try:
        Sysctl.model_validate({name: (values + [0] * 4)[:4] if ratio else values[0]})
    except ValueError:
        raise LikeError(f"{where}: vm.{name} can't be {' '.join(map(str, values))}") from None


def cpu_nodes(root: Path, cpus: int, nodes: list[int]) -> list[int]:
    """The node of each CPU: as sys/devices/system/node beside the directory says, else one after the other in turn."""
    found = [nodes[cpu * len(nodes) // cpus] for cpu in range(cpus)]
    for nid in nodes:
        path = root.parent / "sys" / "devices" / "system" / "node" / f"node{nid}" / "cpulist"
        if path.is_file():
            line, where = next(lines_of(path), ("", f"{path}:1"))
            if not _LIST.fullmatch(line):
                raise LikeError(f"{where}: not a list of CPUs: {line[:40]!r}")
            for part in filter(None, line.split(",")):
                first, _, last = part.partition("-")
                for cpu in range(number(first, where), min(number(last or first, where), cpus - 1) + 1):
                    found[cpu] = nid
    return found
