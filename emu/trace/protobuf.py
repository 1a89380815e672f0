"""The classes of Perfetto's trace format, from the library ``perfetto``."""

from typing import Any

__all__ = ["MissingLibraryError", "proto"]


class MissingLibraryError(ValueError):
    """The library isn't installed: one line that says how to."""


def proto() -> Any:
    """The module with all messages. Raises :class:`MissingLibraryError`."""
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2
    except ImportError:
        raise MissingLibraryError("a Perfetto trace needs a library: pip install 'emu-pagealloc[perfetto]'") from None
    return perfetto_trace_pb2
