"""The command line's help reads well, and the shell completes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from emu.cli import app
from tests.docs.source import needs_source, tool


@needs_source
def test_help_says_what_a_value_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of which Python type."""
    commands = tool("commands", monkeypatch)
    for name, command in commands.tree(get_command(app), "emu"):
        assert command.help, name
        for what, about in commands.options(command):
            assert "<" not in what, f"{name} {what}: give it a metavar"
            assert about.split("  [")[0].endswith("."), f"{name} {what}: {about!r} is no sentence"


@pytest.mark.parametrize("group", [[], ["race"], ["stress"]], ids=["emu", "race", "stress"])
def test_lists_of_commands_are_not_cut_short(group: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emu", *group, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Commands:" in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.tool
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("emu ra", ["race"]),
        ("emu race mini", ["minimize"]),
        ("emu race show R1", ["R1", "R10", "R12", "R14", "R19"]),
        ("emu run --workload hog,file", ["hog,filecache"]),
        ("emu run --sysctl vm.watermark_b", ["vm.watermark_boost_factor="]),
        ("emu proc buddy", ["buddyinfo"]),
    ],
)
def test_bash_completes(words: str, offered: list[str]) -> None:
    program = Path(sys.executable).with_name("emu")
    if not program.exists() or not shutil.which("bash"):
        pytest.skip("needs bash and an installed emu")
    script = f"""
        PATH="{program.parent}:$PATH"
        eval "$(emu --show-completion bash)"
        COMP_WORDS=({words})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _emu_completion emu
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert set(offered) <= set(done.stdout.split()), done.stdout + done.stderr
