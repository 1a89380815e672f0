"""Reports are kept with their time, lines of the OOM killer go to the report they belong to, and nobody is left out."""

from types import SimpleNamespace
from typing import Any

import pytest

from emu.html import incidents
from emu.html.incidents import MOST, Incidents
from emu.zone.event import EV_ALLOC_FAILURE, EV_OOM_KILL, EV_OOM_KILLED, EV_OOM_REAPED, EV_WARN


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two CPUs; a report's text is its kind and its CPU."""
    monkeypatch.setattr(incidents, "render", lambda event, m: f"{event['kind']} of {event['cpu']}\n")
    told: list[Any] = []
    return SimpleNamespace(m=SimpleNamespace(nr_cpus=2), on_report=told.append, told=told)


def event(kind: int, cpu: int, ts: int = 0) -> dict[str, int]:
    return {"kind": kind, "cpu": cpu, "ts": ts}


def test_each_line_goes_where_it_belongs(machine: Any) -> None:
    kept = Incidents(machine)
    reaper = 7
    for kind, cpu in (
        (EV_OOM_KILL, 0), (EV_OOM_KILL, 1), (EV_OOM_KILLED, 0), (EV_ALLOC_FAILURE, 1), (EV_OOM_KILLED, 1),
        (EV_OOM_REAPED, reaper), (EV_WARN, 0),
    ):  # fmt: skip
        machine.on_report(event(kind, cpu, ts=kind))
    found = [(one.kind, one.cpu, one.at, one.text) for one in kept.kept]
    assert found == [
        ("oom", 0, EV_OOM_KILL, f"{EV_OOM_KILL} of 0\n{EV_OOM_KILLED} of 0\n"),
        ("oom", 1, EV_OOM_KILL, f"{EV_OOM_KILL} of 1\n{EV_OOM_KILLED} of 1\n{EV_OOM_REAPED} of {reaper}\n"),
        ("failure", 1, EV_ALLOC_FAILURE, f"{EV_ALLOC_FAILURE} of 1\n"),
        ("report", 0, EV_WARN, f"{EV_WARN} of 0\n"),
    ]
    assert len(machine.told) == 7, "who listened before still does"


def test_too_many_are_counted(machine: Any) -> None:
    kept = Incidents(machine)
    for _ in range(MOST + 3):
        machine.on_report(event(EV_ALLOC_FAILURE, 0))
    assert (len(kept.kept), kept.left_out) == (MOST, 3)
