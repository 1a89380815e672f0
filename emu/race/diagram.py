"""A recorded schedule as a diagram in the style of a kernel commit message: a column for each CPU and daemon, time
going down, one line at a time in one column.

    CPU0                            CPU1
    free_unref_page_prepare()
      read migratetype = HighAtomic
      <preempted>
                                    unreserve_highatomic_pageblock()
                                      lock
                                        nr_reserved_highatomic 1024 -> 512

A switch is marked where it happens: ``<preempted>`` where an actor could have gone on, ``<waits for ...>``, ``<sleeps
on ...>`` where it couldn't, ``<irq>`` where an interrupt comes in on top. Rounds of a loop that are all the same are
folded, and so is what is in the middle of a long run and touches nothing that another column touches.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.race.fields import Namer, variable_of_field
from emu.race.variables import variable_name

if TYPE_CHECKING:
    from emu.race.replay import Recording, Seen
    from emu.race.scenario import Scenario

__all__ = ["Cell", "Fold", "Line", "columns_of", "diagram", "steps_of"]

RUN = 12  # steps in a row of one actor that are shown as they are
HEAD, TAIL = 2, 3  # of a longer one: so many at its ends, and what matters
GAP = 3  # fewer steps aren't worth folding
MANY = 60  # lines, from which on counters and pages don't make a step matter
PERIOD = 200  # steps of the longest round that is recognised
WRITE = re.compile(r"(write|set|clear|xchg) (\S+)$")


@dataclass(frozen=True)
class Cell:
    """A step, rendered: the function it is in, its lines below that, and the marks before and after it."""

    index: int
    actor: str
    column: int
    function: str
    lines: tuple[tuple[str, str], ...]  # kind, text. Kinds: op, point, value, result
    before: str = ""  # irq, work: it begins on top of the column's task
    after: str = ""  # preempted, waits for ..., sleeps on ..., ends


@dataclass(frozen=True)
class Fold:
    """Steps that aren't shown: more rounds like the ``steps`` before, or a stretch of one actor."""

    rounds: int  # 0: a stretch
    steps: int  # of a round, or of the stretch
    columns: tuple[int, ...]
    first: int  # number of the first step that isn't shown
    alike: bool = True  # the rounds are the same to the last number


@dataclass(frozen=True)
class Line:
    """A line of the diagram. ``kind``: function, op, point, value, result, mark or fold; ``step``: its number."""

    column: int
    kind: str
    text: str
    step: int


def columns_of(recording: "Recording", scenario: "Scenario") -> list[str]:
    """Names of the columns: CPUs, then daemons, those that take part."""
    names = [*scenario.programs, *scenario.irqs, *(seat_of(step.actor) for step in recording.steps)]
    order = {"cpu": 0, "kswapd": 1, "kcompactd": 2}

    def key(name: str) -> tuple[int, int, str]:
        kind = name.rstrip("0123456789")
        return order.get(kind, 3), int(name[len(kind) :] or 0), name

    return sorted(dict.fromkeys(names), key=key)


def seat_of(actor: str) -> str:
    """``cpu0`` for ``irq0`` and ``work0``: who runs on top has the column of what is below."""
    return re.sub(r"^(irq|work)(?=\d)", "cpu", actor)


# --- a step -----------------------------------------------------------------------------------------------------------


def _point_lines(step: "Seen", namer: Namer) -> Iterator[tuple[str, str]]:
    """What the point is, with the value read or written, and what else the step wrote."""
    function, _, what = step.point.partition(":")
    rest = list(step.writes)
    if not what:
        if function in ("sleep", "spin"):
            yield "point", {"sleep": "wakes up", "spin": "looks again"}[function]
    elif found := WRITE.match(what):
        wanted = found[2].rpartition(".")[2]
        named = [w for w in rest if variable_of_field(w.name) == wanted]
        if named:
            rest.remove(named[0])
            name = namer.short(named[0].name, step.actor)
            whose = found[2] if variable_of_field(named[0].name) == name else name
            yield "point", f"{found[1]} {whose} {namer.change(named[0])}"
        else:
            same = f", still {step.value}" if step.value else "" if rest or found[1] != "write" else ", as it was"
            yield "point", f"{what}{same}"
    else:
        yield "point", f"{what} = {step.value}" if step.value else what
    for text in namer.writes(rest, step.actor):
        yield "value", text


def _step_lines(step: "Seen", namer: Namer) -> Iterator[tuple[str, str]]:
    begun = [did for did in step.did if not did.ended]
    point = list(_point_lines(step, namer))
    if step.point in ("start", "interrupt", "work"):
        yield from (("op", did.op) for did in begun[:1])
        begun = begun[1:]
        yield from point
    else:
        yield from point
    for did in step.did:
        if did.ended and did.result:
            yield "result", f"{did.op.partition('(')[0]}() returns {did.result}"
        elif not did.ended and did in begun:
            yield "op", did.op


def steps_of(recording: "Recording", scenario: "Scenario") -> list[Cell]:
    """All steps, rendered."""
    namer = Namer(scenario)
    columns = {name: i for i, name in enumerate(columns_of(recording, scenario))}
    cells = []
    steps = recording.steps
    for i, step in enumerate(steps):
        following = steps[i + 1] if i + 1 < len(steps) else None
        function = step.point.partition(":")[0] if ":" in step.point else ""
        on_top = re.match(r"(irq|work)\d", step.actor)
        before = on_top[1] if on_top and step.point in ("interrupt", "work") else ""
        after = step.stands
        if not after and following and following.preempts == step.actor:
            # an interrupt says itself what it does to the task below
            after = "" if seat_of(following.actor) == seat_of(step.actor) else "preempted"
        if after == "end":
            after = f"end of {on_top[1]}" if on_top else "ends"
        elif step.stands:
            after = namer.waiting(after, step.actor)
        lines = tuple(_step_lines(step, namer))
        cells.append(Cell(i, step.actor, columns[seat_of(step.actor)], function, lines, before, after))
    return cells


# --- what matters -----------------------------------------------------------------------------------------------------


COMMON = re.compile(r"^page |^task|^counters |vm_stat|\.free_area\[|\.count$|lruvecs|_lock$|\.current$|\.(next|prev)$")


def _touched(step: "Seen", strict: bool) -> Iterator[tuple[str, bool]]:
    """Variables of a step, and whether it writes them. ``strict``: not those that all allocations and frees write."""
    if " " in step.point:
        yield variable_name(step.point).rpartition(".")[2], False
    for write in step.writes:
        if not strict or not COMMON.search(write.name):
            yield variable_of_field(write.name), True
            yield write.name, True


def _relevant(recording: "Recording", strict: bool = False) -> set[int]:
    """Steps that touch what another column touches, where one of the two writes."""
    readers: dict[str, set[str]] = defaultdict(set)
    writers: dict[str, set[str]] = defaultdict(set)
    for step in recording.steps:
        for name, writes in _touched(step, strict):
            (writers if writes else readers)[name].add(seat_of(step.actor))

    def shared(name: str) -> bool:
        return bool(writers[name]) and len(writers[name] | readers[name]) > 1

    return {i for i, step in enumerate(recording.steps) if any(shared(name) for name, _ in _touched(step, strict))}


# --- folding ----------------------------------------------------------------------------------------------------------


def _key(cell: Cell) -> tuple[object, ...]:
    return cell.actor, cell.function, cell.lines, cell.before, cell.after


def _pattern(cell: Cell) -> tuple[object, ...]:
    """The same without numbers."""
    lines = tuple((kind, re.sub(r"\d+", "#", text)) for kind, text in cell.lines)
    return cell.actor, cell.function, lines, cell.before, cell.after


def _rounds(keys: Sequence[object], at: int, most: int) -> tuple[int, int]:
    """Length of a round that begins at a step, and how many follow one another: the pair that saves most."""
    best = (0, 0)
    for period in range(1, min(most, (len(keys) - at) // 2) + 1):
        end = at + period
        while end < len(keys) and keys[end] == keys[end - period]:
            end += 1
        count = (end - at) // period
        if count >= 2 and (count - 1) * period > max((best[1] - 1) * best[0], GAP - 1):
            best = (period, count)
    return best


def _fold_rounds(cells: list[Cell]) -> list[Cell | Fold]:
    """Rounds that are the same, or the same but for numbers and at least four, are shown once, and so are the rounds
    inside of one."""
    exact, alike = [_key(cell) for cell in cells], [_pattern(cell) for cell in cells]
    out: list[Cell | Fold] = []
    at = 0
    while at < len(cells):
        period, count = _rounds(exact, at, PERIOD)
        same = count > 0
        if not same:
            period, count = _rounds(alike, at, PERIOD)
        if count < (2 if same else 4):
            out.append(cells[at])
            at += 1
            continue
        shown = cells[at : at + period]
        out += _fold_rounds(shown) if period > 1 else shown
        out.append(Fold(count - 1, period, tuple(sorted({cell.column for cell in shown})), at + period, same))
        at += period * count
    return out


def _fold_runs(items: list[Cell | Fold], relevant: set[int]) -> list[Cell | Fold]:
    """Long runs of one actor lose what is in their middle and concerns nobody else."""
    out: list[Cell | Fold] = []
    at = 0
    while at < len(items):
        end = at + 1
        while end < len(items) and _same_run(items[at], items[end]):
            end += 1
        run = items[at:end]
        if len(run) > RUN:
            ends = {*range(HEAD), *range(len(run) - TAIL, len(run))}
            run = list(_with_gaps(run, [i in ends or _matters(item, relevant) for i, item in enumerate(run)]))
        out += run
        at = end
    return out


def _same_run(a: Cell | Fold, b: Cell | Fold) -> bool:
    if isinstance(b, Fold):
        return not isinstance(a, Fold) and b.columns == (a.column,)
    return (a.columns == (b.column,)) if isinstance(a, Fold) else a.actor == b.actor


def _matters(item: Cell | Fold, relevant: set[int]) -> bool:
    """Whether it must be shown: others have to do with it, an operation begins or ends, somebody waits."""
    if isinstance(item, Fold):
        return any(number in relevant for number in range(item.first - item.steps, item.first))
    marked = item.before or item.after or any(kind in ("op", "result") for kind, _ in item.lines)
    return item.index in relevant or bool(marked)


def _with_gaps(run: list[Cell | Fold], keep: list[bool]) -> Iterator[Cell | Fold]:
    at = 0
    while at < len(run):
        end = at
        while end < len(run) and not keep[end]:
            end += 1
        left_out = run[at:end]
        cells = [item for item in left_out if isinstance(item, Cell)]
        if len(left_out) >= GAP and cells:
            steps = len(cells) + sum(item.rounds * item.steps for item in left_out if isinstance(item, Fold))
            yield Fold(0, steps, (cells[0].column,), cells[0].index)
        else:
            yield from left_out
        if end < len(run):
            yield run[end]
        at = end + 1


def folded(recording: "Recording", scenario: "Scenario", full: bool = False) -> list[Cell | Fold]:
    """The steps as they are to be shown."""
    cells = steps_of(recording, scenario)
    if full:
        return list(cells)
    items = _fold_rounds(cells)
    loops = [item for item in items if isinstance(item, Fold)]
    # of a livelock the body of the loop is what one wants to see
    body = set(range(loops[-1].first - loops[-1].steps, loops[-1].first)) if loops and is_loop(recording) else set()
    shown = _fold_runs(items, _relevant(recording) | body)
    if sum(len(item.lines) for item in shown if isinstance(item, Cell)) <= MANY:
        return shown
    return _fold_runs(items, _relevant(recording, strict=True) | body)


def is_loop(recording: "Recording") -> bool:
    """Whether what went wrong is that something goes on for ever."""
    return recording.verdict.kind in ("livelock", "too many steps")


# --- lines ------------------------------------------------------------------------------------------------------------


def diagram(recording: "Recording", scenario: "Scenario", full: bool = False) -> list[Line]:
    """The lines of the diagram. ``full``: nothing is folded."""
    lines: list[Line] = []
    function: dict[int, str] = {}  # the heading that stands last in each column
    for item in folded(recording, scenario, full):
        if isinstance(item, Fold):
            lines += _fold_lines(item)
            function.clear()
            continue
        if item.before:
            lines.append(Line(item.column, "mark", f"<{item.before}>", item.index))
            function.pop(item.column, None)
        for kind, text in item.lines:
            if kind == "op":
                function.pop(item.column, None)
            elif kind == "point" and item.function and function.get(item.column) != item.function:
                lines.append(Line(item.column, "function", f"{item.function}()", item.index))
                function[item.column] = item.function
            lines.append(Line(item.column, kind, text, item.index))
        if item.after:
            lines.append(Line(item.column, "mark", f"<{item.after}>", item.index))
            if item.after.startswith("end"):
                function.pop(item.column, None)
    return lines


def _fold_lines(fold: Fold) -> Iterator[Line]:
    if not fold.rounds:
        yield Line(fold.columns[0], "fold", f"... {fold.steps} steps", fold.first)
        return
    times = "once more" if fold.rounds == 1 else f"{fold.rounds} more times"
    steps = f" {fold.steps} steps" if fold.steps > 1 else ""
    text = f"... the same{steps} {times}" + ("" if fold.alike else ", with other numbers")
    yield Line(fold.columns[0], "fold", text, fold.first)
