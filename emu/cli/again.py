"""A command that needs a mode (EMU_MODE) begins again in it: modes are chosen when the program is loaded."""

import os
import sys

__all__ = ["begin_again_in"]


def begin_again_in(mode: str) -> None:
    """Replace this process by the same command in ``mode``, unless it is the one we are in."""
    from shm.core import MODE

    if mode != MODE:
        sys.stdout.flush()
        again = [sys.executable, "-m", "emu", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "EMU_MODE": mode})  # noqa: S606 - the program itself
