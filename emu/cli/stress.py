"""``emu stress``: what the machine stands under load."""

from __future__ import annotations

import typer

from emu.cli.common import app

stress = typer.Typer(name="stress", no_args_is_help=True, rich_markup_mode=None, help="What a machine stands.")
app.add_typer(stress)
