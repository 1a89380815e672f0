"""A file that appears when all of it has been written, or not at all.

What is no regular file (a device, a pipe) can't be replaced and is written to. A link stays; its target appears whole.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

__all__ = ["WholeFile", "write_parts", "write_whole"]


class WholeFile:
    """Written beside its place, and put there by :meth:`keep`. Errors: OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve() if path.is_symlink() else path
        self.replaces = self.path.is_file() or not self.path.exists()
        try:
            self.file: IO[bytes] = self._beside() if self.replaces else self.path.open("wb")
        except OSError as err:
            raise type(err)(err.errno, err.strerror, str(path)) from None

    def _beside(self) -> IO[bytes]:
        return tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}-", delete=False)

    def write(self, data: bytes) -> None:
        """Append."""
        self.file.write(data)

    def keep(self) -> None:
        """It is complete: what was there before is replaced."""
        self.file.close()
        if self.replaces:
            new = Path(self.file.name)
            new.chmod(0o644)
            new.replace(self.path)

    def discard(self) -> None:
        """There is to be no file. What was there before stays."""
        self.file.close()
        if self.replaces:
            Path(self.file.name).unlink(missing_ok=True)


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """A whole file of parts that are made one by one."""
    file = WholeFile(path)
    try:
        for part in parts:
            file.write(part)
        file.keep()
    except BaseException:
        file.discard()
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """A whole file at once."""
    write_parts(path, [content.encode() if isinstance(content, str) else content])
