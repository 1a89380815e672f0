"""Files that appear whole or not at all. What is no file is a pipe here: whoever may, would lose a device."""

import os
import threading  # noqa: TID251 - who reads a pipe; nothing is forked
from collections.abc import Iterator
from pathlib import Path

import pytest

from emu.whole import WholeFile, write_parts, write_whole


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_there_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("before")
    file = WholeFile(path)
    file.write(b"after")
    assert path.read_text() == "before"
    file.keep()
    assert path.read_text() == "after" and path.stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["f"]


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    (tmp_path / "f").write_text("before")
    for name in ("f", "new"):
        with pytest.raises(KeyboardInterrupt):
            write_parts(tmp_path / name, parts())
    assert names(tmp_path) == ["f"] and (tmp_path / "f").read_text() == "before"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through it")
    reader.join()
    assert got == ["through it"] and pipe.is_fifo() and names(tmp_path) == ["pipe"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "dir" / "target")
    for text in ("new", "newer"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "dir" / "target").read_text() == text
    assert names(tmp_path / "dir") == ["target"]


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "none" / "f", "")
    assert caught.value.filename == str(tmp_path / "none" / "f")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, "")
