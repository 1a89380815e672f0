"""``emu stress``: questions about contention, each a command."""

from __future__ import annotations

import typer

from emu.cli.common import app
from emu.cli.order import InOrder

stress = typer.Typer(cls=InOrder, no_args_is_help=True, help="Stress locks, interrupts and the slow path, and measure.")
app.add_typer(stress, name="stress")
