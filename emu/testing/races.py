"""``@race_test``: a pytest test that fails if a schedule of a scenario does.

What can be said from outside, as environment variables and, with ``emu.pytest_plugin``, as options:

``EMU_RACE_SECONDS``    ``--race-seconds``    another budget, for all tests
``EMU_RACE_SEED``       ``--race-seed``       another seed
``EMU_RACE_REPLAY``     ``--race-replay``     a schedule, or a file with one: it is played instead
``EMU_RACE_ARTIFACTS``  ``race_artifacts`` in the ini file: where schedules of failures are saved (pytest's cache)
"""

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from emu.programs import load_all
from emu.race.catalogue import catalogue
from emu.race.explore import ALL, Result
from emu.race.players import Players
from emu.race.replay import record, replay
from emu.race.report import Report
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule, reduced, schedule_in
from emu.race.spread import spread
from emu.race.variant import variant_words
from emu.testing.artifacts import save_artifact
from emu.testing.runs import check_determinism as examine
from emu.testing.runs import scenario_named

T = TypeVar("T", int, float)

__all__ = ["race_test"]

SECONDS = 10.0  # of a test that gives no budget
TWICE = 20  # schedules that check_determinism=True plays twice
WIDTH = 120

Source = Scenario | str | Callable[[], Scenario]


def race_test(
    scenario: Source, *, strategy: str = "random", seconds: float | None = None, schedules: int | None = None,
    unfixed: bool = False, fails: bool | None = False, seed: int | Sequence[int] = 1, bound: int = -1, depth: int = 3,
    jobs: int = 1, check_determinism: bool | int = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
    """Explore a scenario before the test's own code runs; a schedule that fails, fails the test.

    ``scenario``: one, the name of one (``"R8"``), or what makes one. ``seconds``, ``schedules``: the budget, 10 seconds
    if there is none; an exhaustive search needs none. ``fails=True``: a schedule must fail; ``None``: the test decides.
    It is given the :class:`~emu.race.explore.Result` if it has an argument ``result``. Each ``seed`` is a test of its
    own, with the seed in its id. ``check_determinism``: so many schedules (20 if True) are played twice first.

    The message of a failure has the verdict, the schedule in one line, the CPUs side by side and the command that plays
    it again; schedule and report are saved as a file.

    >>> @race_test("R13", strategy="exhaustive")
    ... def test_batch_is_read_once(result):
    ...     assert result.coverage == "exhaustive"
    """
    import pytest

    given = _number("EMU_RACE_SEED", int)
    seeds = [given] if given is not None else [seed] if isinstance(seed, int) else list(seed)
    budget = SECONDS if seconds is None and schedules is None and strategy not in ("exhaustive", "dpor") else seconds
    twice = TWICE if check_determinism is True else int(check_determinism)

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(test).parameters

        @functools.wraps(test)
        def run(*args: Any, race_seed: int, request: pytest.FixtureRequest, **fixtures: Any) -> Any:
            run_ = _Run(request, race_seed, fails, unfixed)
            try:
                load_all()
                run_.scenario = scenario() if callable(scenario) else scenario_named(scenario)
                if twice:
                    run_.doubt(examine(run_.scenario, twice, unfixed=unfixed, seed=race_seed))
                line = run_.asked()
                if line is not None:
                    result = run_.again(line)
                else:
                    result = spread(
                        run_.scenario, unfixed=unfixed, strategy=strategy, seed=race_seed, bound=bound, depth=depth,
                        jobs=jobs, schedules=schedules or ALL,
                        seconds=_budget(budget),
                    )  # fmt: skip
                run_.judge(result)
            except ScenarioError as err:
                pytest.fail(str(err), pytrace=False)
            if "request" in parameters:
                fixtures["request"] = request
            if "result" in parameters:
                fixtures["result"] = result
            return test(*args, **fixtures)

        kept = [p for name, p in parameters.items() if name not in ("result", "request")]
        more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("race_seed", "request")]
        run.__signature__ = inspect.Signature([*kept, *more])  # type: ignore[attr-defined]
        ids = [f"seed={n}" for n in seeds]
        each_seed: Callable[..., Any] = pytest.mark.parametrize("race_seed", seeds, ids=ids)(run)
        return each_seed

    return decorate


def _number(variable: str, kind: type[T]) -> T | None:
    """What an environment variable says, if it does."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise ScenarioError(f"{variable}: {text!r} is not a number") from None


def _budget(seconds: float | None) -> float:
    """Of a test: what the environment says, or the test; something must be played."""
    asked = _number("EMU_RACE_SECONDS", float)
    budget = asked if asked is not None else seconds if seconds is not None else float(ALL)
    if not budget > 0:
        raise ScenarioError(f"a budget of {budget:g} seconds: nothing would be played")
    return budget


class _Run:
    """One test."""

    scenario: Scenario

    def __init__(self, request: Any, seed: int, fails: bool | None, unfixed: bool) -> None:
        self.request, self.seed, self.fails, self.unfixed = request, seed, fails, unfixed

    def note(self, **facts: object) -> None:
        """For the JUnit report."""
        self.request.node.user_properties += [(f"race_{name}", str(value)) for name, value in facts.items()]

    def fail(self, text: str) -> None:
        """The test fails with this text alone."""
        import pytest

        __tracebackhide__ = True
        pytest.fail(text, pytrace=False)

    def asked(self) -> Schedule | None:
        """The schedule that is to be played instead."""
        import pytest

        text = os.environ.get("EMU_RACE_REPLAY")
        if not text:
            return None
        line = schedule_in(text)
        if line is None:
            try:
                line = schedule_in(Path(text).read_text())
            except (OSError, UnicodeDecodeError) as err:
                raise ScenarioError(f"EMU_RACE_REPLAY: {text}: {err}") from None
        if line is None:
            raise ScenarioError(f"EMU_RACE_REPLAY: {text}: no line of it is a schedule (emu-race/1 ...)")
        if line.scenario != self.scenario.id or line.unfixed != self.unfixed:
            pytest.skip(f"the schedule to be replayed is one of {line.scenario}")
        return line

    def again(self, line: Schedule) -> Result:
        """Play it."""
        with Players(reduced(self.scenario, line.dropped), self.unfixed) as players:
            result = replay(players, line)
        result.schedule = line
        return result

    def judge(self, result: Result) -> None:
        """Fail if the test must."""
        self.note(
            seed=self.seed, strategy=result.strategy, schedules=result.schedules, coverage=result.coverage,
            verdict=result.verdict,
        )  # fmt: skip
        if not result.schedules:
            self.fail(f"{self.scenario.id}: no schedule was played; seed {self.seed}")
        if self.fails is False and result.found:
            self.fail(self.told(result))
        if self.fails and not result.found:
            variant = variant_words(self.scenario, self.unfixed)
            self.fail(f"{self.scenario.id} ({variant}): no schedule failed, {result.coverage}; seed {self.seed}")

    def doubt(self, diagnosis: Any) -> None:
        """Fail if the scenario isn't deterministic."""
        if not diagnosis.deterministic:
            self.fail(str(diagnosis))

    def told(self, result: Result) -> str:
        """Verdict, schedule, report, and how to play it again."""
        scenario, line = self.scenario, str(result.schedule)
        head = [
            f"{scenario.id} ({variant_words(scenario, self.unfixed)}): {scenario.title}", str(result.verdict),
            f"{result.strategy}, seed {result.seed}: {result.schedules:,} schedules, {result.coverage}", "",
            f"schedule: {line}", "",
        ]  # fmt: skip
        try:
            schedule = result.schedule or Schedule.parse(line)
            scenario = reduced(scenario, schedule.dropped)
            with Players(scenario, self.unfixed) as players:
                report = Report(record(players, schedule), scenario)
            body, command = list(report.body(WIDTH)), report.command
        except ScenarioError as err:
            body, command = [str(err)], ""
        tail = [f"replay: {command}"] if command and self.scenario is catalogue().get(scenario.id) else []
        try:
            name = self.request.node.name
            saved = save_artifact(self.directory(), name, "\n".join([line, "", *head, *body, "", *tail]) + "\n")
        except OSError as err:
            what, not_saved = line, f"not saved: {err}"
            tail.append(not_saved)
        else:
            what = str(saved)
            tail.append(f"saved: {what}")
        test = shlex.quote(self.request.node.nodeid)
        tail.append(f"this test on it alone: EMU_RACE_REPLAY={shlex.quote(what)} pytest {test}")
        self.note(schedule=line, artifact=what)
        return "\n".join([*head, *body, "", *tail])

    def directory(self) -> Path:
        """Where failures are saved."""
        given = os.environ.get("EMU_RACE_ARTIFACTS")
        config = self.request.config
        if given:
            return Path(config.rootpath, given)
        if getattr(config, "cache", None) is not None:
            return Path(config.cache.mkdir("emu-race"))
        return Path(self.request.getfixturevalue("tmp_path_factory").mktemp("emu-race"))
