"""A terminal of 100 columns in an empty directory that has the repository's examples and data."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from shm.segment import segments
from tests.docs.pages import BESIDE, ROOT, Command

SECONDS = 60.0  # for a machine to boot, and for it to end when asked


class Terminal:
    """Runs commands one after another, some of them beside the others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.beside: list[subprocess.Popen[bytes]] = []
        (directory / "tests").mkdir()
        for name in ("examples", "tests/data", "tests/cases"):
            (directory / name).symlink_to(ROOT / name)
        program = directory / "bin" / "emu"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m emu "$@"\n')
        program.chmod(0o755)
        path = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        source = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": source, "COLUMNS": "100", "TERM": "dumb"}

    def run(self, command: Command) -> tuple[int, str, str]:
        """Its exit status, and what it prints on stdout and on stderr."""
        if command.beside:
            self.start(BESIDE.sub("", command.line))
            return 0, "", ""
        done = subprocess.run(
            ["bash", "-c", command.line], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def start(self, line: str) -> None:
        """Start a machine, and wait until it is there."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.beside.append(process)
        until = time.monotonic() + SECONDS
        while not any(segment.alive for segment in segments()):
            assert process.poll() is None and time.monotonic() < until, f"{line}: no machine"
            time.sleep(0.05)

    def close(self) -> None:
        """End what runs beside."""
        for process in self.beside:
            process.terminate()
        while self.beside:
            self.beside.pop().wait(SECONDS)

    def play(self, block: list[Command]) -> Iterator[tuple[Command, int, str, str]]:
        """Each command, its exit status and what it printed on stdout and on stderr."""
        try:
            for command in block:
                yield command, *self.run(command)
        finally:
            self.close()
