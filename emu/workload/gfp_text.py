"""The text form of gfp flags, as tracing prints it, to the gfp_t value of Linux 5.10."""

from typing import Final

_BITS: Final = (
    "DMA", "HIGHMEM", "DMA32", "MOVABLE", "RECLAIMABLE", "HIGH", "IO", "FS", "ZERO", "ATOMIC", "DIRECT_RECLAIM",
    "KSWAPD_RECLAIM", "WRITE", "NOWARN", "RETRY_MAYFAIL", "NOFAIL", "NORETRY", "MEMALLOC", "COMP", "NOMEMALLOC",
    "HARDWALL", "THISNODE", "ACCOUNT",
)  # fmt: skip

GFP_MASK: Final = (1 << len(_BITS)) - 1
"""Every bit that means something to a 5.10 kernel built without lockdep."""


def _named_values() -> dict[str, int]:
    value = {f"__GFP_{name}": 1 << bit for bit, name in enumerate(_BITS)}

    def bits(*names: str) -> int:
        return sum(value[f"__GFP_{name}"] for name in names)

    reclaim = bits("DIRECT_RECLAIM", "KSWAPD_RECLAIM")
    kernel = reclaim | bits("IO", "FS")
    user = kernel | bits("HARDWALL")
    movable = user | bits("HIGHMEM", "MOVABLE")
    huge_light = (movable | bits("COMP", "NOMEMALLOC", "NOWARN")) & ~reclaim
    return value | {
        "__GFP_RECLAIM": reclaim,
        "__GFP_NOLOCKDEP": 0,
        "GFP_ATOMIC": bits("HIGH", "ATOMIC", "KSWAPD_RECLAIM"),
        "GFP_KERNEL": kernel,
        "GFP_KERNEL_ACCOUNT": kernel | bits("ACCOUNT"),
        "GFP_NOWAIT": bits("KSWAPD_RECLAIM"),
        "GFP_NOIO": reclaim,
        "GFP_NOFS": reclaim | bits("IO"),
        "GFP_USER": user,
        "GFP_HIGHUSER": user | bits("HIGHMEM"),
        "GFP_HIGHUSER_MOVABLE": movable,
        "GFP_TRANSHUGE_LIGHT": huge_light,
        "GFP_TRANSHUGE": huge_light | bits("DIRECT_RECLAIM"),
        "none": 0,
    }


GFP_VALUES: Final = _named_values()
"""Name -> gfp_t value: the single bits and the composite names."""


def parse_gfp(text: str) -> tuple[int, tuple[str, ...]]:
    """Return the 5.10 value of `text` ("GFP_KERNEL|__GFP_ZERO", "0xdc0", "3520" or "none") and what it left out.

    A name has its 5.10 meaning whatever kernel printed it, and "GFP_X" stands for "__GFP_X" when only that exists.
    Left out are names 5.10 does not know and numeric bits outside GFP_MASK (as one hex string a part).
    """
    value, unknown = 0, []
    for part in text.split("|"):
        name = part.strip()
        known = GFP_VALUES.get(name, GFP_VALUES.get(f"__{name}"))
        if known is None:
            try:
                number = int(name, 0)
            except ValueError:
                unknown.append(name)
                continue
            known = number & GFP_MASK
            if number != known:
                unknown.append(hex(number & ~GFP_MASK))
        value |= known
    return value, tuple(unknown)
