"""``emu explain`` as a user meets it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunEmu = Callable[..., CompletedProcess[str]]
DUMPS = Path(__file__).parent.parent / "data" / "dumps"


def test_file_is_explained(run_emu: RunEmu) -> None:
    result = run_emu("explain", DUMPS / "v5.10-order5.txt")
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.split("\n\n")
    assert "line 3: cat was refused Unmovable memory (order 6, 64 pages in one block, 256 kB)" in first
    assert "\n  DMA32  no block: 71,164 kB free less 252 kB for order 6" in first
    assert "\nverdict: fragmented: DMA32 and DMA have the pages, but no block of order 5" in second


def test_json_and_gzip(run_emu: RunEmu, tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt.gz"
    path.write_bytes(gzip.compress((DUMPS / "v6.8-oom-boost.txt").read_bytes()))
    result = run_emu("explain", path, "--json")
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    (dump,) = data["dumps"]
    assert (dump["kind"], dump["task"], dump["verdict"]["kind"]) == ("oom", "nfsd", "watermark")
    assert dump["zones"][0]["causes"] == ["cma", "boost"] and data["problems"] == []


def test_what_can_not_be_explained_is_said_beside_what_can(run_emu: RunEmu, tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = (DUMPS / "v5.4-order5.txt").read_text()
    path.write_text(text + "a: page allocation failure: order:0, mode:0x820(GFP_ATOMIC), nodemask=(null)\n")
    result = run_emu("explain", path)
    assert result.returncode == 0, result.stderr
    assert f"{path}: line {len(text.splitlines()) + 1}: no Mem-Info follows" in result.stdout


@pytest.mark.parametrize(("content", "words"), [
    (b"", ("line 1:", "no 'page allocation failure'")),
    (b"\x00\xff\xfe\n\x01", ("line 2:", "no 'page allocation failure'")),
    (b"\x1f\x8b\x08\x00broken", ("line 1:", "damaged gzip")),
    (b"x: page allocation failure: order:0, mode:0x820(GFP_ATOMIC)\nMem-Info:\n", ("line 1:", "no zones follow")),
], ids=["empty", "binary", "gzip", "cut"])  # fmt: skip
def test_bad_file_is_one_line(run_emu: RunEmu, tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    result = run_emu("explain", path)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"emu: {path}: ") and all(word in line for word in words)


def test_missing_file_is_one_line(run_emu: RunEmu, tmp_path: Path) -> None:
    result = run_emu("explain", tmp_path / "none")
    assert result.returncode == 2
    assert result.stderr.strip() == f"emu: {tmp_path / 'none'}: No such file or directory"
