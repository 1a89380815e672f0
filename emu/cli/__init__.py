"""The command line. Exit status: 0 fine, 1 a check failed, 2 bad usage or input."""

from __future__ import annotations

import typer

from emu.cli import (
    ctl,
    drgn,
    explain,
    look,
    proc,
    race,
    race_prove,
    race_replay,
    race_run,
    record,
    run,
    stress_all,
    stress_irq,
    stress_kill,
    stress_lock,
    stress_oversubscribe,
    stress_slowpath,
    top,
    trace,
)
from emu.cli.common import UsageError, app

__all__ = [
    "app", "ctl", "drgn", "explain", "look", "main", "proc", "race", "race_prove", "race_replay", "race_run", "record",
    "run", "stress_all", "stress_irq", "stress_kill", "stress_lock", "stress_oversubscribe", "stress_slowpath",
    "top", "trace",
]  # fmt: skip


def main() -> None:
    """``emu``: errors of the user and of files are one line and exit status 2."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise SystemExit(130) from None
    except Exception as err:
        from emu.config import ConfigError
        from emu.like import LikeError
        from emu.machine import MachineError
        from emu.race.scenario import ScenarioError
        from emu.record import RecordError
        from emu.trace.convert import ConvertError
        from emu.trace.protobuf import MissingLibraryError
        from emu.trace.recording import RecordingError
        from emu.workload.case import CaseError
        from emu.workload.trace import TraceError
        from emu.zone.boot import ShapeError
        from emu.zone.snapshot import StateError
        from shm.core import CoreError
        from shm.segment import SegmentError

        if isinstance(err, MachineError | CoreError):
            typer.echo(f"emu: {err}", err=True)
            raise SystemExit(1) from None
        known = (
            UsageError, ConfigError, CaseError, TraceError, ShapeError, StateError, SegmentError, ScenarioError,
            RecordError, LikeError, MissingLibraryError, RecordingError, ConvertError, OSError,
        )  # fmt: skip
        if not isinstance(err, known):
            raise
        text = f"{err.filename}: {err.strerror}" if isinstance(err, OSError) and err.filename else str(err)
        typer.echo(f"emu: {text}", err=True)
        raise SystemExit(2) from None
