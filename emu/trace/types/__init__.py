"""The trace events, a file for each system: what ``include/trace/events/*.h`` is in the kernel (5.10)."""
