"""``emu stress``: one command answers one question about locks, interrupts or shortage."""

from __future__ import annotations

import typer

from emu.cli.common import app

stress_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure a machine at its limits.")
app.add_typer(stress_app, name="stress")
