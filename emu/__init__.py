"""emu: the Linux 5.10 zoned page allocator, run by real processes over shared memory."""
