"""Parts of an exploration: what one worker is given, and what it gives back, both plain data.

A part of a *sampling* exploration is a number of schedules with a seed of its own. A part of an *exhaustive* search is
a subtree: a path of decisions, as nodes of the depth-first search, of which the first have nothing left to try. Played
until its slice of time is over, it gives back the rest of its subtree as further parts, in depth-first order::

    root ─┬─ a ─┬─ played
          │     └─ rest 1
          ├─ b ─── rest 2
          └─ c ─── rest 3
"""

from collections.abc import Callable, Iterator
from typing import Any

from emu.race.explore import play_batch
from emu.race.plan import Node, Plan
from emu.race.players import Players

__all__ = ["Path", "Values", "play_part", "rest_of"]

Values = dict[str, Any]
Path = list[list[int]]

FIELDS: tuple[str, ...] = tuple(name for name, _ in Node._fields_)  # type: ignore[misc]
TODO, CHOSEN = FIELDS.index("todo"), FIELDS.index("chosen")


def _load(plan: Plan, path: Path) -> None:
    """The search begins below these decisions, and ends there."""
    for node, values in zip(plan.nodes, path, strict=False):
        for name, value in zip(FIELDS, values, strict=True):
            setattr(node, name, value)
    plan.nr_nodes = len(path)


def _nodes(plan: Plan) -> Path:
    return [[int(getattr(node, name)) for name in FIELDS] for node in plan.nodes[: plan.nr_nodes]]


def _with(node: list[int], todo: int, chosen: int | None = None) -> list[int]:
    changed = list(node)
    changed[TODO] = todo
    if chosen is not None:
        changed[CHOSEN] = chosen
    return changed


def rest_of(path: Path) -> Iterator[Path]:
    """What a search stopped at this path has not been to, in the order in which it would have: everything below the
    first decision that leaves something to try, then each of its alternatives."""
    at = next((i for i, node in enumerate(path) if node[TODO]), None)
    if at is None:
        yield path
        return
    yield [*path[:at], _with(path[at], 0), *path[at + 1 :]]
    todo = path[at][TODO]
    while todo:
        yield [*path[:at], _with(path[at], 0, (todo & -todo).bit_length() - 1)]
        todo &= todo - 1


def play_part(players: Players, part: Values, leaving: Callable[[], bool] = lambda: False) -> Values:
    """Play a part: ``strategy``, ``seed``, ``bound``, ``delay``, ``depth``, ``stop``, at most ``schedules`` in
    ``seconds``, and ``path`` in an exhaustive search. ``leaving``: nobody wants it any more, one schedule will do."""
    plan = players.arena.plan
    path: Path = part.get("path") or []

    def prepare() -> None:
        _load(plan, path)
        if leaving():
            plan.limit = 0

    result = play_batch(
        players, part["strategy"], seed=part["seed"], bound=part["bound"], delay=part["delay"], depth=part["depth"],
        schedules=part["schedules"], seconds=part["seconds"], stop_at_failure=part["stop"],
        prepare=prepare,
    )  # fmt: skip
    players.arena.memory.learn_until = 0  # parts may be short: one look at all memory is enough from now on
    over = part["stop"] and result.found
    alive = result.verdict.kind not in ("crash", "hang")
    rest: list[Path] = []
    if part["strategy"] == "exhaustive" and alive and not over and not plan.exhausted:
        rest = list(rest_of(_nodes(plan)))
    return {
        "schedules": result.schedules, "failures": result.failures, "pruned": result.pruned, "steps": result.steps,
        "most_steps": result.most_steps, "handoffs": result.handoffs, "cut": int(plan.cut), "alive": alive,
        "coverage": result.coverage, "verdict": result.verdict.as_dict(),
        "schedule": str(result.schedule) if result.schedule else None, "rest": rest,
    }  # fmt: skip
