"""What is left behind: a directory with a summary and the machine's /proc files, written whole or not at all."""

import gzip
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emu.proc import FILES, render
from emu.zone.snapshot import State

__all__ = ["write_report"]


def write_report(directory: Path, summary: dict[str, Any], state: State, more: Mapping[str, str] | None = None) -> Path:
    """``summary.json``, ``state.json.gz`` and ``proc/*`` in a directory that appears at once.

    ``more``: files of /proc that are not made from the state.

    An earlier report of the same name is replaced; anything else there is refused.
    """
    if directory.exists() and not (directory / "summary.json").exists():
        raise FileExistsError(f"{directory}: exists and is not a report")
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".report-", dir=directory.parent))
    try:
        (new / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        with gzip.open(new / "state.json.gz", "wt") as file:
            json.dump(state, file)
        (new / "proc").mkdir()
        for name in FILES:
            (new / "proc" / name).write_text(render(name, state))
        for name, text in (more or {}).items():
            (new / "proc" / name).write_text(text)
        new.chmod(0o755)
        if directory.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=directory.parent))
            directory.rename(old / "report")
            new.rename(directory)
            shutil.rmtree(old)
        else:
            new.rename(directory)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return directory
