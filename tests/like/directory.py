"""Directories with the files of another machine."""

import gzip
import json
from pathlib import Path

from emu.proc.tree import tree
from emu.replay import DEMO

CASES = [DEMO[1], *sorted((Path(__file__).parents[1] / "cases").glob("*/*/before.json.gz"))]


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def of_case(path: Path, directory: Path) -> Path:
    with gzip.open(path, "rt") as file:
        return write(directory, tree(json.load(file)))


def change(path: Path, old: str, new: str) -> None:
    """Replace text in a file that has it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
