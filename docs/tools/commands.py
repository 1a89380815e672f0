"""docs/commands.md and docs/emu.1: every command with its help, from the command line's own tree."""

import re
from collections.abc import Iterator
from typing import Any

from typer._click.core import Context
from typer.main import get_command

from emu.cli import app

HEADING = """# Commands

What `emu --help` and `emu COMMAND --help` say. Sizes are written as in the kernel (`512M`, `4G`). Exit status: 0 fine,
1 a check failed or a race was found, 2 bad usage or input. `emu --install-completion` teaches the shell commands,
options, ids of races, workloads and sysctls."""
TYPE = re.compile(r" <[\w\[\] ]+>$")  # behind an argument's name


def tree(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it, as help lists them."""
    yield name, command
    for below in command.list_commands(Context(command)) if hasattr(command, "commands") else ():
        yield from tree(command.commands[below], f"{name} {below}")


def usage(name: str, command: Any) -> str:
    """The line behind *Usage:*."""
    return " ".join([name, *command.collect_usage_pieces(Context(command))])


def options(command: Any) -> list[tuple[str, str]]:
    """What is given behind the command, and what it means; ``--help`` goes without saying."""
    records = [p.get_help_record(Context(command)) for p in command.params if not getattr(p, "hidden", False)]
    return [(TYPE.sub("", what), help_) for what, help_ in filter(None, records)]


def paragraphs(help_: str) -> Iterator[tuple[bool, str]]:
    """Of a help text; true: lines are kept as they are."""
    for part in help_.split("\n\n"):
        yield part.startswith("\b"), part.removeprefix("\b\n")


def cell(text: str) -> str:
    """Text in a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def code(text: str) -> str:
    """Code in a Markdown table, where a bar must not be one."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def markdown(name: str, command: Any) -> Iterator[str]:
    """A command's section."""
    yield f"\n{'#' * len(name.split())} {name}\n" if " " in name else ""
    for kept, text in paragraphs(command.help):
        yield f"```text\n{text}\n```\n" if kept else " ".join(text.split()) + "\n"
    yield f"    {usage(name, command)}\n"
    if rows := options(command):
        yield "| given | means |"
        yield "|---|---|"
        yield from (f"| {code(what)} | {cell(help_)} |" for what, help_ in rows)


def commands_page() -> str:
    """docs/commands.md"""
    lines = [HEADING]
    for name, command in tree(get_command(app), "emu"):
        lines += markdown(name, command)
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """Text in a man page."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def man(name: str, command: Any) -> Iterator[str]:
    """A command's section in the man page."""
    yield f".SS {roff(name)}"
    yield f".B {roff(usage(name, command))}"
    for kept, text in paragraphs(command.help):
        yield f".PP\n.nf\n{roff(text)}\n.fi" if kept else f".PP\n{roff(' '.join(text.split()))}"
    for what, help_ in options(command):
        yield f".TP\n.B {roff(what)}\n{roff(help_)}"


def man_page() -> str:
    """docs/emu.1"""
    root = get_command(app)
    lines = ['.TH EMU 1 "" "emu" "User Commands"', ".SH NAME", rf"emu \- {roff(root.help)}", ".SH SYNOPSIS"]
    lines += [f".B {roff(usage('emu', root))}", ".SH COMMANDS"]
    for name, command in tree(root, "emu"):
        lines += man(name, command)
    lines += [".SH EXIT STATUS", "0: fine. 1: a check failed or a race was found. 2: bad usage or input."]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Both pages: path below docs/, and text."""
    return {"commands.md": commands_page(), "emu.1": man_page()}
