"""Questions for processes of their own: ``python -m tests.race.again digests 250 pinned``."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import emu.race.ops_litmus as ops
from emu.programs import load_all
from emu.race.again import play_again
from emu.race.catalogue import find_scenario
from emu.race.doctor import check_determinism
from emu.race.explore import play_batch
from emu.race.ops_litmus import add, increase, lock, nap, read, signal, step, unlock, write
from emu.race.players import Players
from emu.race.scenario import Scenario
from emu.race.schedule import Schedule, schedule_of
from emu.testing import litmus

SCENARIOS = (
    litmus([lock(0), add(0), unlock(0)], [nap(1)], [add(0), signal(1)], irqs=[increase(2)], name="MIXED"),
    find_scenario("R8"), find_scenario("R12"), find_scenario("R1"),
)  # fmt: skip
EACH = 3


def digests(times: int, place: str) -> dict[str, list[str]]:
    """Schedules of four scenarios, each replayed so often: the different logs and memories."""
    if place == "pinned":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {}
    for scenario in SCENARIOS:
        with Players(scenario) as players:
            for seed in range(EACH):
                play_batch(players, "random", seed=seed, schedules=1)
                line = str(schedule_of(players, seed))
                again = play_again(players, Schedule.parse(line), times)
                found[line] = [f"{again.log} {again.memory}"] if again.identical else [again.log, "another"]
    return found


def _planted(kind: str, where: int) -> tuple[Scenario, str, Callable[..., int]]:
    """A scenario in which the ``where``-th access to memory mixes in what nobody controls, and the point of it."""
    programs: list[list[Any]] = [
        [write(0), add(1), read(2, 0)], [increase(1), step(1), read(0, 1)], [add(3), write(2), read(1, 2)]
    ]  # fmt: skip
    flat = [(cpu, op) for cpu, ops_ in enumerate(programs) for op in ops_ if op.kind.name != "step"]
    cpu, wanted = flat[where % len(flat)]
    real = ops.op_access

    def soiled(who: Any, a: Any, op: Any) -> int:
        old = real(who, a, op)
        if who.party.index == cpu and op.code == wanted.kind.code and op.args[0] == wanted.args[0]:
            dice = time.monotonic_ns() if kind == "time" else int.from_bytes(os.urandom(6))
            a.variables[7].value += dice
        return old

    verb = "write" if wanted.kind.name in ("write", "add") else "read"
    return litmus(*programs, name="PLANTED"), f"cpu{cpu} at litmus:{verb} v{wanted.args[0]}", soiled


def planted(count: int) -> list[dict[str, str]]:
    """So many models with something uncontrolled: where it was planted, and where it was found."""
    found = []
    real = ops.op_access
    for i in range(count):
        scenario, place, soiled = _planted(("time", "urandom")[i % 2], i // 2)
        ops.op_access = soiled
        try:
            with Players(scenario) as players:
                difference = check_determinism(players, 5, seed=i).difference
        finally:
            ops.op_access = real
        found.append({"planted": place, "found": f"{difference.actor} at {difference.point}" if difference else ""})
    return found


if __name__ == "__main__":
    load_all()
    what, number, *rest = sys.argv[1:]
    sys.stdout.write(json.dumps({"digests": digests, "planted": planted}[what](int(number), *rest)))
