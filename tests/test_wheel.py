"""What users install: the wheel has everything, and works from an empty directory.

`make test-wheel` runs the whole suite that way; here are its first commands and a part of the tests.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PART = ("tests/test_cli.py", "tests/proc")
pytestmark = [pytest.mark.compiled, pytest.mark.slow]


def call(*argv: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of this Python, in a directory and with nothing of this test run in its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False,
        timeout=280,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("wheel")
    done = call("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(room), str(ROOT), cwd=room)
    assert done.returncode == 0, done.stderr
    (made,) = room.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """Where it is installed; what it depends on is in this environment already."""
    target = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_the_wheel_has_all_files_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith(("emu/", "shm/"))}
    kept = {
        str(path.relative_to(ROOT)) for room in ("emu", "shm") for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    assert packed == kept


def test_the_demo_runs_from_an_empty_directory(site: Path, tmp_path: Path) -> None:
    where = call("-c", "import emu, shm; print(emu.__file__, shm.__file__)", cwd=tmp_path, PYTHONPATH=str(site))
    assert all(Path(file).is_relative_to(site) for file in where.stdout.split()), where
    done = call("-m", "emu", "demo", "--quiet", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert "validate: clean" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["emu-report"]


def test_tests_pass_against_the_wheel(site: Path, tmp_path: Path) -> None:
    for name in ("tests", "docs", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = call("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *PART, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout.splitlines()[-1]
