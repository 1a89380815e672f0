"""What ``emu race`` refuses, in one line each."""

from pathlib import Path

import pytest

from tests.race.command import LOOP, MINE, Emu, refused

pytestmark = pytest.mark.usefixtures("native")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "R999"), ("R999: no such race",)),
        (("run", "missing.py"), ("missing.py: no such file",)),
        (("run", f"{MINE}:NONE"), ("no scenario 'NONE'", "LOOP, TWICE, COUNTED, LARGE")),
        (("run", LOOP, "--strategy", "luck"), ("--strategy luck", "auto, exhaustive")),
        (("run", LOOP, "--strategy", "replay"), ("--strategy replay",)),
        (("run", LOOP, "--budget", "soon"), ("--budget soon", "10s")),
        (("run", LOOP, "--budget", "0s"), ("--budget 0s",)),
        (("run", LOOP, "--report", "r.pdf"), ("r.pdf", ".html")),
        (("run", LOOP, "--report", "no/such/r.txt"), ("no/such/r.txt: no such directory",)),
        (("run", LOOP, "--out", "no/such/s"), ("no/such/s: no such directory",)),
        (("run", LOOP, "--out", "."), (".: exists and is no file",)),
        (("run", f"{MINE}:LARGE", "--fix"), ("LARGE: it has one variant",)),
        (("run", LOOP, "--fix", "--unfix"), ("LOOP: both with the fix and without it",)),
        (("run", LOOP, "--fix", "R12", "--unfix", "R12"), ("R12: both",)),
        (("run", LOOP, "--unfix", "R999"), ("R999: no race that the model has both variants of",)),
        (("explore", LOOP, "--bound", "1", "--exhaustive"), ("--exhaustive and --bound",)),
        (("explore", LOOP, "--strategy", "pct"), ("--strategy pct",)),
        (("replay", "emu-race/1 LOOP unfixed seed=1 drop=cpu0.²", "--file", MINE), ("has no cpu0.²",)),
        (("explore", LOOP, "--strategy", "dpor", "--bound", "1"), ("--strategy dpor: without --bound",)),
        (("explore", LOOP, "--strategy", "dpor", "--jobs", "2"), ("--strategy dpor: without --bound and --jobs",)),
        (("replay", "emu-race/1 LOOP unfixed seed=1", "--file", MINE, "--fix"), ("it can't be the other",)),
    ],
)
def test_bad_usage_is_one_line(emu: Emu, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(emu(*args), *words)


def test_a_broken_file_is_one_line(emu: Emu, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("SCENARIOS = (1 / 0,)\n")
    refused(emu("run", "broken.py"), "broken.py: ZeroDivisionError")
    (tmp_path / "gone.py").write_text("raise SystemExit(0)\n")
    refused(emu("run", "gone.py"), "gone.py: SystemExit")
    (tmp_path / "empty.py").write_text("")
    refused(emu("show", "empty.py"), "has no SCENARIOS")


MISTAKES = {
    "programs=None": "programs and irqs are dicts",
    "programs={'cpu0': (free,)}": "programs['cpu0'] is no tuple of operations",
    "programs={'cpu0': free(0)}": "programs['cpu0'] is no tuple of operations",
    "irqs={'cpu0': free(0)}": "irqs['cpu0'] is no tuple of tuples of operations",
    "irqs={'cpu0': (free(0),)}": "irqs['cpu0'] is no tuple of tuples of operations",
    "id='two words'": "an id is one word",
    "invariants=('sound',)": "invariants is no tuple of Invariant",
    "kind='odd'": "kind 'odd'",
    "status='lost'": "status 'lost'",
    "switch='R999'": "switch 'R999': the model has none of that name",
    "setup=5": "setup is no function",
    "setup=lambda w: {}['gone']": "setup: mine.py:6: KeyError: 'gone'",
    "setup=lambda w: w.run(free(10**9))": "free(slot=1000000000): slot 1000000000: this machine has 0 to 63",
    "programs={'cpu0': (free(0, order=11),)}": "order 11: this machine has 0 to 10",
    "max_steps=0": "max_steps 0: 1 to ",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_scenario_that_cannot_be_is_one_line(emu: Emu, tmp_path: Path, mistake: str) -> None:
    fields = {"id": "'MINE'", "title": "'mine'", "story": "''", "shape": "small()", "programs": "{'cpu0': (free(0),)}"}
    fields["invariants"] = "()"
    name, _, value = mistake.partition("=")
    fields[name] = value
    lines = [
        "from emu.race.ops_pages import free",
        "from emu.race.scenario import Scenario, small",
        "",
        "",
        "MINE = Scenario(",
        "    " + ", ".join(f"{name}={value}" for name, value in fields.items()),
        ")",
        "SCENARIOS = (MINE,)",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines) + "\n")
    refused(emu("run", "mine.py"), MISTAKES[mistake])
