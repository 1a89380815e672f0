"""A process that mustn't outlive the one that has forked it."""

import ctypes

__all__ = ["end_with_parent"]

PR_SET_PDEATHSIG = 1


def end_with_parent(number: int) -> None:
    """Get signal ``number`` when the parent ends. It may have ended before: compare ``os.getppid()`` afterwards."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
