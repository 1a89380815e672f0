"""Basic types (``include/linux/types.h`` (5.10))."""

from shm.struct import At, Struct, i64, struct, u32


@struct
class ListHead(Struct):
    """``struct list_head``. A link is an offset from the machine record in units of 4 bytes, so always even."""

    next: int = u32()
    prev: int = u32()


@struct
class AtomicLong(Struct):
    """``atomic_long_t``"""

    counter: int = i64()


list_head_at = At(ListHead)
