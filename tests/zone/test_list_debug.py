"""CONFIG_DEBUG_LIST of checked mode: every kind of torn list ends the process that meets it, and is told in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emu.zone.list_debug import EXIT_BUG

PLANT = """
from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.init_vm import vm_of
from emu.zone.list import list_add, list_add_tail, list_del
from emu.zone.list_debug import list_bug_text
from emu.zone.mmzone import PAGE_SIZE_OF
from emu.zone.types import list_head_at
import os

with Board.boot(shape_of(1, [1 << 14])) as b:
    m = b.m
    def lru(pfn):
        return list_head_at(m, m.mem_map + pfn * PAGE_SIZE_OF)
    head = b.cpu(0).scratch[0]
    here = (m.cpus + type(b.cpu(0)).scratch.offset) >> 2
    head.next = head.prev = here
    for pfn in (100, 101, 102):
        list_add_tail(m, lru(pfn), head)
    pid = os.fork()
    if pid == 0:
        PLANTED
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(status, list_bug_text(m, vm_of(m).list_bug) if status else "")
"""


def planted(what: str) -> str:
    env = {**os.environ, "EMU_MODE": "interpreted", "PYTHONPATH": str(Path(__file__).parents[2])}
    code = PLANT.replace("PLANTED", what)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            "list_del(m, lru(101)); list_del(m, lru(101))",
            "list_del corruption. prev->next should be pfn 0x65, but was pfn 0x66",
        ),
        (
            "lru(102).prev = here; list_del(m, lru(101))",
            "list_del corruption. next->prev should be pfn 0x65, but was list head",
        ),
        ("lru(100).prev = 0; list_add(m, lru(103), head)", "list_add corruption. next->prev should be prev (list head"),
        (
            "lru(102).next = 0; list_add_tail(m, lru(103), head)",
            "list_add corruption. prev->next should be next (list head",
        ),
        ("list_add(m, lru(100), head)", "list_add double add: new=pfn 0x64"),
    ],
    ids=["deleted twice", "next", "add next", "add prev", "added twice"],
)
def test_a_torn_list_is_noticed(what: str, says: str) -> None:
    assert planted(what).startswith(f"{EXIT_BUG} {says}")


@pytest.mark.slow
def test_whole_lists_are_left_alone() -> None:
    assert planted("list_del(m, lru(101)); list_add(m, lru(101), head); list_add_tail(m, lru(103), head)") == "0"
