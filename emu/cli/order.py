"""The order in which ``--help`` lists commands: what one needs first, first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context

__all__ = ["InOrder"]

ORDER = (
    "list", "show", "run", "replay", "minimize", "explore", "prove", "datarace",  # of emu race, mostly
    "lock", "slowpath", "irq", "oversubscribe", "kill", "all",  # of emu stress
    "demo", "record", "stress", "race", "explain", "top", "proc", "trace", "drgn", "ctl", "check", "verify", "bench",
    "warmup", "ps", "gc",
)  # fmt: skip


class InOrder(TyperGroup):
    """A group of commands in that order; what isn't in it comes last."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Names of the group's commands."""
        place = {name: at for at, name in enumerate(ORDER)}
        return sorted(super().list_commands(ctx), key=lambda name: place.get(name, len(ORDER)))
