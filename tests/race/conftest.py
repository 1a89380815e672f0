"""The command line in this process."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emu.cli import main
from emu.programs import load_all
from emu.race.report import Report
from tests.race.command import Done, Emu
from tests.race.planted import LOOP, TWICE
from tests.race.reports import found


@pytest.fixture
def native() -> None:
    """Native code for a test that plays scenarios in its own process."""
    load_all()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Emu:
    """``command("race", "run", "R8")``, in ``tmp_path`` and 120 columns; ``stdin``: what it reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def begin_again(program: str, argv: list[str], environment: dict[str, str]) -> None:
        """In the mode that the command asks for, and this process stays what it is."""
        done = subprocess.run(argv, executable=program, env=environment, capture_output=True, text=True, check=False)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        raise SystemExit(done.returncode)

    monkeypatch.setattr(os, "execve", begin_again)

    def run(*args: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["emu", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as end:
            main()
        status = end.value.code
        assert status is None or isinstance(status, int)
        return Done(status or 0, *capsys.readouterr())

    return run


@pytest.fixture
def emu(command: Emu) -> Emu:
    """``emu race ...``: ``emu("run", LOOP)``."""
    return lambda *args, **more: command("race", *args, **more)


@pytest.fixture(scope="module")
def loop() -> Report:
    load_all()
    return found(LOOP)


@pytest.fixture(scope="module")
def twice() -> Report:
    load_all()
    return found(TWICE)
