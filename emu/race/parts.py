"""Parts of an exploration: what one worker is given, and what it gives back, both plain data.

A part of a *sampling* exploration is a number of schedules with a seed of its own. A part of an *exhaustive* search is
a subtree: the path of decisions down to it, as the nodes of the depth-first search with nothing left to try. Played
until its slice of time is over, it gives back the rest of its subtree as further parts, in depth-first order::

    root ─┬─ a ─┬─ .. played
          │     └─ .. rest 1       the deepest alternatives come first, as they would in one search
          ├─ b ───── rest 2
          └─ c ───── rest 3
"""

from collections.abc import Iterator
from typing import Any

from emu.race.explore import ALL, play_batch
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


def _closed(path: Path) -> Path:
    return [[0 if i == TODO else value for i, value in enumerate(node)] for node in path]


def rest_of(path: Path) -> Iterator[Path]:
    """The subtrees that a search stopped at this path has not been to, in the order in which it would have."""
    yield _closed(path)
    nodes = [list(node) for node in path]
    while nodes:
        last = nodes[-1]
        if not last[TODO]:
            nodes.pop()
            continue
        last[CHOSEN] = (last[TODO] & -last[TODO]).bit_length() - 1
        last[TODO] &= last[TODO] - 1
        yield _closed(nodes)


def play_part(players: Players, part: Values) -> Values:
    """Play a part: ``strategy``, ``seed``, ``bound``, ``delay``, ``depth``, ``stop``, at most ``schedules`` in
    ``seconds``, and ``path`` in an exhaustive search."""
    plan = players.arena.plan
    path: Path = part.get("path") or []
    result = play_batch(
        players, part["strategy"], seed=part["seed"], bound=part["bound"], delay=part["delay"], depth=part["depth"],
        schedules=part["schedules"] or ALL, seconds=part["seconds"], stop_at_failure=part["stop"],
        prepare=lambda: _load(plan, path),
    )  # fmt: skip
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
