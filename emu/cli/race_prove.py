"""``emu race prove`` and ``emu race datarace``: what needs to see every access (EMU_MODE=instrumented)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.again import begin_again_in
from emu.cli.common import Json, Quiet, Stoppable, print_result
from emu.cli.complete import races
from emu.cli.race import Budget, Fix, Seed, Unfix, VariantCommand, Which, load, race, seconds_of

if TYPE_CHECKING:
    from emu.race.prove import Proof


@race.command()
def prove(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID|FILE", autocompletion=races, help="None: all of them."),
    ] = None,
    seed: Seed = 1,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="For each fixed variant, before it is bounded: 10s, 2m.")
    ] = "10s",
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Check the whole catalogue of races.

    Each is found by sampling and by bounded search, and with the fix there is none.

    The fixed variant is exhausted with partial-order reduction, or played with at most two preemptions where that is
    too much. Exit status 1 when a scenario isn't what it says.
    """
    from emu.race.catalogue import catalogue, find_scenario
    from emu.race.prove import prove as prove_one

    seconds = seconds_of(budget)
    names = which or list(catalogue())
    scenarios = [find_scenario(name) for name in names]
    begin_again_in("instrumented")
    load(quiet or as_json)
    proofs: list[Proof] = []
    lines = [
        f"seed {seed}",
        f"{'id':5} {'sampled by':18} {'bounded search':20} {'fewest':12} {'with the fix':28} {'s':>5}",
    ]
    with Stoppable():
        for scenario in scenarios:
            proofs.append(prove_one(scenario, seed=seed, seconds=seconds))
            lines.append(_line(proofs[-1]))
            if not (quiet or as_json):
                typer.echo(f"{scenario.id}: {'ok' if proofs[-1].ok else 'NOT OK'}", err=True)
    wrong = [proof.scenario for proof in proofs if not proof.ok]
    how = f"not as they say: {', '.join(wrong)}" if wrong else "all as they say"
    lines.append(f"{len(proofs)} scenarios, {how}")
    first = next((i for i, proof in enumerate(proofs) if not proof.ok), 0)
    follow = f"emu race run {shlex.quote(names[first])}"
    data = {"seed": seed, "proofs": [proof.as_dict() for proof in proofs], "ok": not wrong, "next": follow}
    print_result(as_json, data, lines, follow)
    if wrong:
        raise typer.Exit(1)


def _line(proof: Proof) -> str:
    sampled = f"{proof.sampled_by} {proof.sampled_schedules:,}" if proof.sampled_by else "not found"
    bounded = f"bound {proof.bounded_by}: {proof.bounded_schedules:,}" if proof.bounded_by >= 0 else "not found"
    fewest = f"{proof.fewest}{' proven' if proof.fewest_proven else ''}"
    fixed = f"{proof.fixed} {proof.fixed_schedules:,}"
    other = "".join(f"  {words}" for words in proof.otherwise)
    return f"{proof.scenario:5} {sampled:18} {bounded:20} {fewest:12} {fixed:28} {proof.seconds:5.1f}{other}"


@race.command(cls=VariantCommand)
def datarace(
    which: Which, fix: Fix = None, unfix: Unfix = None, seed: Seed = 1, budget: Budget = "10s",
    schedules: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many schedules.")] = 1000,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Find data races, as KCSAN prints them (exit status 1).

    Plain accesses to shared fields that no lock, mark or atomic orders.
    """
    from emu.race.catalogue import find_scenario
    from emu.race.datarace import data_races, kcsan_text
    from emu.race.variant import chosen, own_variant

    whole = find_scenario(which)
    scenario, unfixed, _ = chosen(whole, fix or (), unfix or (), own_variant(whole))
    seconds = seconds_of(budget)
    begin_again_in("instrumented")
    load(quiet or as_json)
    with Stoppable():
        found, complete = data_races(scenario, unfixed=unfixed, seed=seed, schedules=schedules, seconds=seconds)
    lines = [kcsan_text(one) for one in found]
    more = "" if complete else ", and others that there was no room for: fewer --schedules"
    lines.append(f"seed {seed}: {len(found)} data race{'' if len(found) == 1 else 's'} in {scenario.id}{more}")
    follow = f"emu race show {shlex.quote(which)}"
    told = [one.as_dict() for one in found]
    data = {
        "scenario": scenario.id,
        "unfixed": unfixed,
        "seed": seed,
        "races": told,
        "complete": complete,
        "next": follow,
    }
    print_result(as_json, data, lines, follow)
    if found:
        raise typer.Exit(1)
