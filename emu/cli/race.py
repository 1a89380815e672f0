"""``emu race``: find, replay, shrink and show races."""

from __future__ import annotations

from typing import Annotated

import typer

from emu.cli.common import Json, app, print_result

race = typer.Typer(no_args_is_help=True, help="Find, replay, shrink and show races of the page allocator.")
app.add_typer(race, name="race")

Which = Annotated[str, typer.Argument(metavar="ID|FILE", help="A race of the catalogue, or FILE.py[:ID] of your own.")]
Fix = Annotated[bool, typer.Option("--fix/--unfix", help="The variant without the race, or the one with it.")]
Strategy = Annotated[str, typer.Option(help="exhaustive, random, pct, pos, surw or robin.")]
Bound = Annotated[int, typer.Option(help="Most preemptions of the exhaustive search; -1: any number.")]
Budget = Annotated[float, typer.Option(help="Seconds.")]
Seed = Annotated[int, typer.Option(help="Of the strategy's random numbers.")]


@race.command("run")
def run_race(
    which: Which, fix: Fix = False, strategy: Strategy = "random", bound: Bound = -1, budget: Budget = 10.0,
    seed: Seed = 1, as_json: Json = False,
) -> None:  # fmt: skip
    """Look for a schedule that fails."""
    from emu.programs import load_all
    from emu.race.catalogue import find_scenario
    from emu.race.explore import explore

    scenario = find_scenario(which)
    load_all()
    result = explore(scenario, unfixed=not fix, strategy=strategy, bound=bound, seconds=budget, seed=seed)
    rate = result.schedules / max(result.seconds, 1e-9)
    lines = [
        f"{scenario.id} {'fixed' if fix else 'unfixed'}: {scenario.title}",
        f"{strategy}, seed {seed}: {result.schedules:,} schedules in {result.seconds:.2f} s ({rate:,.0f}/s), "
        f"{result.coverage}",
        str(result.verdict),
    ]  # fmt: skip
    if result.schedule:
        lines.append(str(result.schedule))
    print_result(as_json, result.as_dict(), lines)
    if result.found:
        raise typer.Exit(1)
