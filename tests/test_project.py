"""Rules about the source itself, and the commands that everybody starts with."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 450
NOT_SOURCE = {"__pycache__", "build", "dist", "htmlcov"}
HIDDEN_SOURCE = {".ci", ".github", ".editorconfig", ".gitignore"}
CORE_ROOMS = ("shm", "emu/zone", "emu/cpu", "emu/mm", "emu/compact", "emu/reclaim", "emu/workload")
MACHINE_PATH = re.compile(r"(?<![\w.~*})-])/(?:work|tmp|root|home|Users|opt|mnt|usr/local|var/tmp)/")


def sources(top: Path = ROOT) -> Iterator[Path]:
    """All files somebody wrote: no git needed, and nothing that tools leave behind."""
    for path in sorted(top.iterdir()):
        if path.name in NOT_SOURCE or path.name.endswith(".egg-info"):
            continue
        if path.name.startswith(".") and path.name not in HIDDEN_SOURCE:
            continue
        if path.is_dir():
            yield from sources(path)
        else:
            yield path


def modules() -> list[Path]:
    return [path for path in sources() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("emu", "shm")]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


each_module = pytest.mark.parametrize("path", modules(), ids=named)


def test_there_is_source() -> None:
    assert {"emu/__init__.py", "shm/__init__.py"} <= {named(path) for path in modules()}


# The source


@each_module
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < MAX_LINES, f"{named(path)} has {lines} lines: a file is one kernel concept"


@each_module
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{named(path)} doesn't say what it is"


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for member in members:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                yield member


def decorators(function: ast.FunctionDef) -> set[str]:
    return {ast.unparse(decorator).split("(")[0] for decorator in function.decorator_list}


@pytest.mark.parametrize("path", [p for p in modules() if named(p).startswith(CORE_ROOMS)], ids=named)
def test_public_functions_of_the_core_have_docstrings(path: Path) -> None:
    self_evident = {"property", "cached_property", "overload", "classmethod"}
    tree = ast.parse(path.read_text())
    protocols = {
        member
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in node.bases)
        for member in node.body
    }
    missing = [
        f"{named(path)}:{function.lineno} {function.name}"
        for function in public_functions(tree)
        if not ast.get_docstring(function) and not decorators(function) & self_evident and function not in protocols
    ]
    assert not missing


@each_module
def test_all_names_what_exists(path: Path) -> None:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(dotted)
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []
    assert [name for name in names if name.startswith("_") and not name.startswith("__")] == []


def test_no_machine_paths() -> None:
    found = []
    for path in sources():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue  # recorded data
        found += [
            f"{named(path)}:{at}: {line.strip()}"[:160] for at, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
        ]
    assert not found


@pytest.mark.parametrize(("text", "is_one"), [
    ("cd /" + "work/main", True),
    ('open("/' + 'tmp/x")', True),
    ("see https://example.org/" + "work/this", False),
    ("tests/data/" + "home/x", False),
    ("/dev/shm/emu-1", False),
])  # fmt: skip
def test_machine_path_pattern(text: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is is_one


# What comes with it


def test_license_is_the_gpl_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 2, June 1991" in text
    assert pyproject()["project"]["license"] == "GPL-2.0-only"


def test_changelog_has_the_next_version() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "lint", "coverage", "clean"} <= targets
    unknown = [
        f"{named(path)}: make {target}"
        for path in sources()
        if path.suffix == ".md"
        for target in re.findall(r"(?:`|^\s*\$?\s*)make ([a-z-]+)", path.read_text(), re.MULTILINE)
        if target not in targets
    ]
    assert not unknown


@pytest.mark.parametrize("target", ["run", "test", "lint", "coverage", "clean"])
def test_makefile_is_consistent(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_ci_script_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


# The command


def test_console_script_is_the_command() -> None:
    (script,) = entry_points(group="console_scripts", name="emu")
    assert callable(script.load())
    assert (Path(sys.executable).parent / "emu").exists()


def test_module_is_the_command(run_emu: Any) -> None:
    done = run_emu("--help", timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout.lower()
    for command in ("run", "replay", "verify", "demo", "proc"):
        assert re.search(rf"^[ │]*{command}\b", done.stdout, re.MULTILINE), command


def test_unknown_command_is_bad_usage(run_emu: Any) -> None:
    done = run_emu("no-such-command", timeout=60)
    assert done.returncode == 2
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stderr
