"""page_owner's text: a block for each allocation, as page_owner_sort reads them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.config import make_config
from emu.machine import Machine
from emu.trace.page_owner import page_owner_text
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL

SOURCE = os.environ.get("EMU_KERNEL_SOURCE")
BLOCK = re.compile(
    r"Page allocated via order (\d+), mask (0x[0-9a-f]+)\((\S*)\)\n"
    r"PFN (\d+) type (\w+) Block (\d+) type (\w+) Flags 0x[0-9a-f]+\(\S*\)\n"
    r"(?: \S+\+0x[0-9a-f]+/0x[0-9a-f]+\n)+\n"
)  # fmt: skip

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def machine() -> Iterator[tuple[Machine, list[int]]]:
    """With three pages of CPU 0, one of CPU 1 and one of order 3; what was freed has no owner."""
    config = make_config({"cpus": 2, "memory": "64M", "boot": {"page_owner": True}}, "test")
    with Machine(config) as machine:
        pfns = [machine.alloc_pages(cpu=0, gfp=GFP_KERNEL) for _ in range(3)]
        pfns += [machine.alloc_pages(cpu=1, gfp=GFP_HIGHUSER_MOVABLE)]
        pfns += [machine.alloc_pages(cpu=1, gfp=GFP_KERNEL, order=3)]
        machine.free_pages(cpu=1, pfn=machine.alloc_pages(cpu=0, gfp=GFP_KERNEL, order=2), order=2)
        yield machine, pfns


def test_a_block_for_each_allocation(machine: tuple[Machine, list[int]]) -> None:
    found = {}
    for text in page_owner_text(machine[0].m):
        block = BLOCK.fullmatch(text)
        assert block, text
        order, mask, names, pfn, type_, number, block_type = block.groups()
        assert int(number) == int(pfn) >> 9
        found[int(pfn)] = (int(order), int(mask, 16), names, type_, block_type)
    single = (0, GFP_KERNEL, "GFP_KERNEL", "Unmovable", "Unmovable")
    movable = (0, GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE", "Movable", "Movable")
    assert found == dict(zip(machine[1], [single] * 3 + [movable, (3, *single[1:])], strict=True))


def test_the_command_reads_it_from_a_running_machine(
    machine: tuple[Machine, list[int]], run_emu: Any, tmp_path: Path
) -> None:
    done = run_emu("trace", "page-owner")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(page_owner_text(machine[0].m))
    assert run_emu("trace", "page-owner", "--out", "owner.txt").stdout == "owner.txt: 5 allocations\n"
    assert (tmp_path / "owner.txt").read_text() == done.stdout


def test_a_machine_without_it_is_told(run_emu: Any) -> None:
    with Machine(cpus=1, memory="64M") as plain:
        name = plain.board.segment.path.name
        done = run_emu("trace", "page-owner", "--machine", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "emu: that machine was booted without page_owner: emu run --boot page_owner\n"


@pytest.mark.tool
@pytest.mark.skipif(
    not (SOURCE and shutil.which("cc")), reason="EMU_KERNEL_SOURCE doesn't say where page_owner_sort is, or no cc"
)
def test_page_owner_sort(machine: tuple[Machine, list[int]], tmp_path: Path) -> None:
    program = tmp_path / "page_owner_sort"
    subprocess.run(["cc", "-w", "-o", program, f"{SOURCE}/tools/vm/page_owner_sort.c"], check=True)
    (tmp_path / "in").write_text("".join(page_owner_text(machine[0].m)))
    subprocess.run([program, tmp_path / "in", tmp_path / "out"], check=True, capture_output=True)
    groups = re.findall(r"^(\d+) times:\n(.*)\n", (tmp_path / "out").read_text(), re.MULTILINE)
    assert groups[0] == ("3", "Page allocated via order 0, mask 0xcc0(GFP_KERNEL)")
    assert sorted(int(times) for times, _ in groups) == [1, 1, 3]
