"""Where the model may be told to differ from 5.10.262, to see what a fix is for (``Machine.deviations``).

Each bit is one race of the catalogue (``emu race list``). A race that 5.10.262 has a fix for: the bit takes the fix
out. One that is still open there: the bit puts the fix in. One that no kernel had: the bit plants it. All bits clear is
5.10.262 as it is. No place that asks is on the way of an order-0 request that its pcp list can serve.
"""

from emu.zone.mmzone import Machine
from shm.core import core

__all__ = [
    "R1", "R1B", "R2", "R2B", "R3", "R4", "R5", "R6", "R7", "R7B", "R8", "R9", "R9B", "R10", "R11", "R12", "R13",
    "R14", "R15", "R16", "R16B", "R17", "R18", "R19", "R20", "R21", "R22", "R23", "R23B", "R24", "R25", "R27",
    "R28", "R28B", "R30", "R33", "R35", "R36", "R37", "R38", "RACES", "S1", "deviates",
]  # fmt: skip

RACES = (
    "R1", "R1b", "R2", "R2b", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    "R16", "R16b", "R17", "R18", "R19", "R20", "R21", "R22", "R23", "R24", "R25", "R27", "R28", "R30", "R33",
    "R7b", "R35", "R36", "R9b", "R23b", "R28b", "S1", "R37", "R38",
)  # fmt: skip
"""The races that have a switch, in the order of their bits."""

(R1, R1B, R2, R2B, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13, R14, R15, R16, R16B, R17, R18, R19, R20, R21, R22,
 R23, R24, R25, R27, R28, R30, R33, R7B, R35, R36, R9B, R23B,
 R28B, S1, R37, R38) = (1 << i for i in range(len(RACES)))  # fmt: skip


@core(inline=True)
def deviates(m: Machine, bit: int) -> bool:
    """Whether the model is told to differ from 5.10.262 here."""
    return m.deviations & bit != 0
