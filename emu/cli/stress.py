"""``emu stress``: questions about contention, each a command."""

from __future__ import annotations

import typer

from emu.cli.common import app

stress = typer.Typer(no_args_is_help=True, help="Stress locks, interrupts and the slow path, and measure it.")
app.add_typer(stress, name="stress")
