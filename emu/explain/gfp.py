"""What a request was: GFP flags of any kernel from 4.0 on, as a set of names without ``__GFP_``.

Kernels print the names since 4.6, so the names decide and the number is read only where there are none. Names say more
than numbers, too: 4.4, 4.14 and 5.1 renumbered the bits.
"""

from typing import Final

from emu.explain.dump import Dump, DumpError
from emu.zone.gfp_names import GFP_VALUES

__all__ = ["flags_of", "migratetype"]

_RECLAIM: Final = frozenset({"DIRECT_RECLAIM", "KSWAPD_RECLAIM"})
_KERNEL: Final = _RECLAIM | {"IO", "FS"}
_MOVABLE: Final = _KERNEL | {"HARDWALL", "HIGHMEM", "MOVABLE"}
_LIGHT: Final = (_MOVABLE | {"COMP", "NOMEMALLOC", "NOWARN"}) - _RECLAIM
COMPOSITE: Final[dict[str, frozenset[str]]] = {
    "GFP_ATOMIC": frozenset({"HIGH", "ATOMIC", "KSWAPD_RECLAIM"}), "GFP_KERNEL": _KERNEL,
    "GFP_KERNEL_ACCOUNT": _KERNEL | {"ACCOUNT"}, "GFP_NOWAIT": frozenset({"KSWAPD_RECLAIM"}), "GFP_NOIO": _RECLAIM,
    "GFP_NOFS": _RECLAIM | {"IO"}, "GFP_TEMPORARY": _KERNEL | {"RECLAIMABLE"}, "GFP_USER": _KERNEL | {"HARDWALL"},
    "GFP_HIGHUSER": _KERNEL | {"HARDWALL", "HIGHMEM"}, "GFP_HIGHUSER_MOVABLE": _MOVABLE, "GFP_TRANSHUGE_LIGHT": _LIGHT,
    "GFP_TRANSHUGE": _LIGHT | {"DIRECT_RECLAIM"}, "GFP_DMA": frozenset({"DMA"}), "GFP_DMA32": frozenset({"DMA32"}),
    "__GFP_RECLAIM": _RECLAIM, "__GFP_WAIT": frozenset({"DIRECT_RECLAIM"}), "none": frozenset(),
}  # fmt: skip
"""Names that stand for several bits, in all kernels that print them."""

_FIRST = ("DMA", "HIGHMEM", "DMA32", "MOVABLE")
_OLD = ("HIGH", "IO", "FS", "COLD", "NOWARN", "REPEAT", "NOFAIL", "NORETRY", "MEMALLOC", "COMP", "ZERO", "NOMEMALLOC",
        "HARDWALL", "THISNODE")  # fmt: skip
_BITS_4_0: Final = (*_FIRST, "DIRECT_RECLAIM", *_OLD, "RECLAIMABLE", "", "NOTRACK", "NO_KSWAPD", "OTHER_NODE", "WRITE")
"""Bit by bit, up to 4.3: ``__GFP_WAIT`` is what later became direct reclaim."""
_BITS_4_4: Final = (*_FIRST, "RECLAIMABLE", *_OLD, "ATOMIC", "ACCOUNT", "NOTRACK", "DIRECT_RECLAIM", "OTHER_NODE",
                    "WRITE", "KSWAPD_RECLAIM")  # fmt: skip
"""From 4.4 to 4.13."""


def flags_of(dump: Dump, version: tuple[int, int]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The request's flags, and what of its mask has no name here."""
    if dump.names:
        return _by_name(dump.names.split("|"), version)
    if not any(version):
        raise DumpError(f"line {dump.line}: the mask has no names, and no line says which kernel its numbers are of")
    if version < (4, 14):
        return _by_bits(dump.mode, _BITS_4_0 if version < (4, 4) else _BITS_4_4)
    if version < (5, 1):
        raise DumpError(f"line {dump.line}: the mask {dump.mode:#x} has no names, and 4.14 to 5.0 always print them")
    bits = {name.removeprefix("__GFP_"): bit for name, bit in GFP_VALUES.items() if bit.bit_count() == 1}
    known = {name: bit for name, bit in bits.items() if not name.startswith("GFP_")}
    return frozenset(name for name, bit in known.items() if dump.mode & bit), ()


def _by_bits(mode: int, bits: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    flags = {name for at, name in enumerate(bits) if name and mode >> at & 1}
    if bits is _BITS_4_0 and "NO_KSWAPD" not in flags:
        flags.add("KSWAPD_RECLAIM")
    unknown = mode >> len(bits) << len(bits)
    return frozenset(flags), (f"{unknown:#x}",) if unknown else ()


def _by_name(names: list[str], version: tuple[int, int]) -> tuple[frozenset[str], tuple[str, ...]]:
    flags: set[str] = set()
    unknown = []
    for name in names:
        if name in COMPOSITE:
            flags |= COMPOSITE[name]
        elif name.startswith("__GFP_"):
            flags.add(name.removeprefix("__GFP_"))
        else:
            unknown.append(name)
    if version >= (6, 3):
        flags.discard("ATOMIC")  # gone: a request is atomic when it can't reclaim
    return frozenset(flags), tuple(unknown)


def migratetype(flags: frozenset[str]) -> str:
    """The mobility that was asked for."""
    if "MOVABLE" in flags:
        return "Movable"
    return "Reclaimable" if "RECLAIMABLE" in flags else "Unmovable"
