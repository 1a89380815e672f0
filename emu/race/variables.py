"""What a point touches, told by its name: ``kswapd:write kswapd_order`` and ``wakeup_kswapd:read kswapd_order`` touch
the same variable. Sampling strategies only, which may be wrong about it."""

import zlib

from shm.point import site_names

__all__ = ["site_variables", "variable_name"]


def variable_name(site: str) -> str:
    """The last word of the name, if there are two behind the colon; else the whole name."""
    words = site.partition(":")[2].split()
    return words[-1] if len(words) > 1 else site


def site_variables() -> list[tuple[int, int]]:
    """Numbers of all sites, sorted, and of their variables."""
    return sorted((number, zlib.crc32(variable_name(name).encode()) & 0x7FFFFFFF) for number, name in site_names())
