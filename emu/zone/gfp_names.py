"""gfp_t flags by name, as 5.10 prints them (``include/trace/events/mmflags.h`` (5.10))."""

from typing import Final

from emu.zone import gfp

__all__ = ["GFP_TABLE", "GFP_VALUES", "flag_names", "gfp_names"]

_MASKS = ("GFP_ZONEMASK", "GFP_MOVABLE_MASK", "GFP_BITS_MASK")
GFP_VALUES: Final[dict[str, int]] = {
    name: value for name, value in vars(gfp).items() if name.startswith(("GFP_", "__GFP_")) and name not in _MASKS
} | {"__GFP_NOLOCKDEP": 0, "none": 0}
"""Name -> gfp_t value: the single bits and the composite names."""

# those with most bits first; what is left over shows by itself
_PRINTED: Final = (
    "GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_USER", "GFP_KERNEL_ACCOUNT",
    "GFP_KERNEL", "GFP_NOFS", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT", "GFP_DMA", "__GFP_HIGHMEM", "GFP_DMA32",
    "__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN", "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL",
    "__GFP_NORETRY", "__GFP_COMP", "__GFP_ZERO", "__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL",
    "__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT", "__GFP_WRITE", "__GFP_RECLAIM",
    "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM",
)  # fmt: skip
GFP_TABLE: Final = tuple((name, GFP_VALUES.get(name, GFP_VALUES.get(f"__{name}", 0))) for name in _PRINTED)
"""Name and bits, in the order in which they are looked for."""


def flag_names(value: int, table: tuple[tuple[str, int], ...]) -> str:
    """``kernel/trace/trace_output.c:trace_print_flags_seq() (5.10)`` with "|": names, then the rest in hex."""
    names = []
    for name, mask in table:
        if value and value & mask == mask:
            names.append(name)
            value &= ~mask
    if value:
        names.append(f"{value:#x}")
    return "|".join(names)


def gfp_names(value: int) -> str:
    """``show_gfp_flags()``: ``GFP_KERNEL|__GFP_ZERO``, or ``none``."""
    return flag_names(value, GFP_TABLE) or "none"
