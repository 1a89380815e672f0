"""Parts of an exploration in a process of its own, for a worker of a cluster."""

from typing import Any

from emu.programs import load_all
from emu.race.catalogue import find_scenario
from emu.race.crew import Stage
from emu.race.scenario import ScenarioError
from emu.race.variant import chosen

__all__ = ["play"]


def play(values: dict[str, Any]) -> dict[str, Any]:
    """Play a ``batch`` of ``which`` scenario's parts: ``{"played": answers}``, or ``{"error": line}``."""
    load_all()
    try:
        scenario, unfixed, _ = chosen(find_scenario(values["which"]), values["fix"], values["unfix"], values["unfixed"])
        stage = Stage(scenario, unfixed)
        try:
            return {"played": stage.play(values["batch"])}
        finally:
            stage.close()
    except ScenarioError as err:
        return {"error": str(err)}
