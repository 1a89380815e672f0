"""Files that a failing test leaves behind: one for each failure, however many workers fail at once."""

import os
import re
import tempfile
from pathlib import Path

__all__ = ["save_artifact"]

MOST = 10_000


def save_artifact(directory: Path, name: str, text: str) -> Path:
    """Write ``NAME-000.txt``, or the next number that nobody has. The file appears whole or not at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as there:
    ...     [save_artifact(Path(there), "test_x[seed=1]", "text").name for _ in range(2)]
    ['test_x-seed=1-000.txt', 'test_x-seed=1-001.txt']
    """
    directory.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.=+-]+", "-", name).strip("-.")[:100] or "race"
    with tempfile.NamedTemporaryFile("w", dir=directory, prefix=".new-") as new:
        new.write(text)
        new.flush()
        Path(new.name).chmod(0o644)
        for number in range(MOST):
            path = directory / f"{stem}-{number:03}.txt"
            try:
                os.link(new.name, path)
            except FileExistsError:
                continue
            return path
    raise FileExistsError(f"{directory}: {MOST} files of {stem}")
