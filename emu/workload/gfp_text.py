"""The text form of gfp flags, as tracing prints it, to the gfp_t value of Linux 5.10."""

from typing import Final

from emu.zone.gfp import GFP_BITS_MASK
from emu.zone.gfp_names import GFP_VALUES

__all__ = ["GFP_MASK", "GFP_VALUES", "parse_gfp"]

GFP_MASK: Final = GFP_BITS_MASK
"""Every bit that means something to a 5.10 kernel built without lockdep."""


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
