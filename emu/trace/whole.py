"""A file that appears when all of it has been written, or not at all."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["WholeFile", "write_parts"]


class WholeFile:
    """Written beside its place, and put there by :meth:`keep`. Errors: OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115  # keep() and discard() close it
                dir=path.parent, prefix=f".{path.name}-", delete=False
            )
        except OSError as err:
            raise type(err)(err.errno, err.strerror, str(path)) from None

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)

    def keep(self) -> None:
        """It is complete: what was there before is replaced."""
        self._file.close()
        new = Path(self._file.name)
        new.chmod(0o644)
        new.replace(self.path)

    def discard(self) -> None:
        """There is to be no file. What was there before stays."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


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
