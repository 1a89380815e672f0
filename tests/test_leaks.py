"""The leak check of conftest.py catches what it is for: each planted leak fails its run, by name."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFTEST = (Path(__file__).parent / "conftest.py").read_text()

SLEEPER = """
import os, signal, subprocess, sys

def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
"""


def run(pytester: pytest.Pytester, source: str, *args: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST.replace("GRACE = 10.0", "GRACE = 0.2"))
    pytester.makepyfile(SLEEPER + source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)


def test_clean_run_passes(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it():\n    child = sleeper()\n    child.kill()\n    child.wait()\n")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_child_is_named_and_ended(pytester: pytest.Pytester) -> None:
    result = run(pytester, "kept = []\ndef test_it():\n    kept.append(sleeper())\ndef test_next(): pass\n")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", "left behind: process *signal.pause()*"])


def test_orphan_is_found(pytester: pytest.Pytester) -> None:
    source = """
def test_it():
    between = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
    subprocess.run([sys.executable, "-c", between], check=True)
"""
    result = run(pytester, source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["left behind: process *signal.pause()*"])


def test_segment_is_named_and_removed(pytester: pytest.Pytester) -> None:
    source = """
def test_it():
    open(os.environ["EMU_SHM"] + "/emu-1-left", "w").close()

def test_next():
    assert not os.listdir(os.environ["EMU_SHM"])
"""
    result = run(pytester, source)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["left behind: segment emu-1-left"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_session_fixture_is_caught_at_the_end(pytester: pytest.Pytester, workers: str) -> None:
    source = """
import pytest

kept = []

@pytest.fixture(scope="session", autouse=True)
def machine():
    kept.append(sleeper())
    open(os.environ["EMU_SHM"] + "/emu-1-left", "w").close()

def test_it(): pass
"""
    result = run(pytester, source, "-n", workers)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["* left process *signal.pause()*", "* left segment emu-1-left"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_what_a_crashed_worker_left_is_caught(pytester: pytest.Pytester) -> None:
    source = """
def test_it():
    sleeper()
    open(os.environ["EMU_SHM"] + "/emu-1-left", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = run(pytester, source, "-n", "1", "--max-worker-restart=0")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["the run left process *signal.pause()*", "the run left segment emu-1-left"])


def test_no_directory_stays(pytester: pytest.Pytester) -> None:
    source = "def test_it():\n    print(os.environ['EMU_SHM'])\n"
    result = run(pytester, source, "-s", "-n", "0")
    room = next(line for line in result.outlines if "pytest-emu-" in line).split(" ")[-1]
    assert not Path(room.removesuffix(".")).exists()
