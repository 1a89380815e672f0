"""A machine like another: as its /proc/zoneinfo, buddyinfo and pagetypeinfo describe it."""

from emu.like.files import LikeError
from emu.like.state import Likeness, like

__all__ = ["LikeError", "Likeness", "like"]
