"""``emu stress all``: every question has an answer, and a wrong one is told."""

import subprocess
import sys

import pytest

from emu.stress import all as everything
from emu.stress.all import PARTS, Part, stress_all

pytestmark = pytest.mark.compiled


def test_parts_come_one_by_one_with_their_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(quick: bool, seed: int) -> tuple[bool, str, dict[str, object]]:
        asked.append((quick, seed))
        return len(asked) != 2, "said", {"n": len(asked)}

    monkeypatch.setattr(everything, "PARTS", {"one": ask, "two": ask, "three": ask})
    parts = list(stress_all(True, 7))
    assert [(p.name, p.ok, p.says, p.report) for p in parts] == [
        ("one", True, "said", {"n": 1}), ("two", False, "said", {"n": 2}), ("three", True, "said", {"n": 3}),
    ]  # fmt: skip
    assert asked == [(True, 7)] * 3
    assert all(isinstance(p, Part) and p.seconds >= 0 for p in parts)


@pytest.mark.slow
def test_quick_answers_all_of_them() -> None:
    args = [sys.executable, "-m", "emu", "stress", "all", "--quick", "--seed", "3"]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[: len(PARTS)]] == [[name, "ok"] for name in PARTS]
    assert lines[-2].startswith("seed 3, ")
    assert lines[-1].startswith("next: emu stress lock")
