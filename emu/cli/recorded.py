"""``--record FILE`` of the commands that run something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.trace.recorder import Recorder

__all__ = ["Record", "Recorded"]

Record = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Record all events; with --lock-stat locks too. emu trace convert reads it."),
]


class Recorded:
    """Record what happens within, to the end of the machine's processes. It must trace from its beginning on (``trace``
    of its configuration)."""

    def __init__(self, machine: Machine, path: Path | None, workload: str) -> None:
        self.machine, self.path, self.workload = machine, path, workload
        self.recorder: Recorder | None = None

    def __enter__(self) -> Recorded:
        from emu.trace.recorder import Recorder

        if self.path is not None:
            config = self.machine.config
            self.recorder = self.machine.recorder = Recorder(
                self.machine.m,
                self.path,
                seed=config.seed,
                workload=self.workload,
                config=config.model_dump(mode="json"),
            )
        return self

    def __exit__(self, *_: object) -> None:
        """The machine's processes end, what is still in their rings is written, and the file appears: whatever has
        ended the run. Nothing happens then that isn't on record, so that lock_stat counts the same."""
        if self.recorder is None:
            return
        from emu.trace.recorder import undisturbed

        try:
            self.machine.halt()
            with undisturbed():
                self.machine.pump()
                self.recorder.close()
        except BaseException:
            self.recorder.discard()
            raise
        finally:
            self.machine.recorder = None

    def report(self, summary: dict[str, Any], lines: list[str]) -> None:
        """Say what was recorded, if anything."""
        if self.recorder is not None:
            summary["recorded"] = self.recorder.summary()
            lines.append(self.recorder.line())
