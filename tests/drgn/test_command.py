"""``emu drgn`` on a machine that ``emu run`` runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.test_ctl_live import ROOT, UP_S, Live, emu, running

pytest.importorskip("drgn", reason="drgn is not installed")
pytestmark = [pytest.mark.usefixtures("run_emu"), pytest.mark.tool, pytest.mark.compiled, pytest.mark.slow]
RunEmu = Callable[..., CompletedProcess[str]]


def test_statements_and_scripts(tmp_path: Path) -> None:
    script = tmp_path / "zones.py"
    script.write_text(
        "zone = prog['node_data'][0].node_zones[1].address_of_()\n"
        "print(low_wmark_pages(zone), zone_page_state(zone, prog['NR_FREE_PAGES']) > 0)\n"
        "print(len(list(free_pages_of(zone, 10, 1))) < 100)\n"
    )
    with running(tmp_path / "report") as process:
        live = Live(process)
        status, out, err = emu("drgn", script, "--machine", live.name)
        assert status == 0, err
        words = out.split()
        assert int(words[0]) > 0 and words[1:] == ["True", "True"]
        assert emu("drgn", "-c", "print(prog['nr_node_ids'])", "--machine", live.name)[1] == "(unsigned int)1\n"
        assert emu("drgn", "-c", "print(num_online_cpus(), nr_node_ids())", "--machine", live.name)[1] == "2 1\n"
        counting = "import time; a = global_vm_event_state(prog['PGFREE']); time.sleep(1); "
        counting += "print(0 < a < global_vm_event_state(prog['PGFREE']))"
        assert emu("drgn", "-c", counting, "--machine", live.name)[1] == "True\n"
        script.write_text("a = 1\nprint(prog['nothing'])\n")
        status, out, err = emu("drgn", script, "--machine", live.name)
        assert status == 2 and err.count("\n") == 1 and f"{script}:2: ObjectNotFoundError" in err
        assert emu("drgn", "-c", "1 +", "--machine", live.name)[2].startswith("emu: -c:1: SyntaxError")


def test_the_shell_has_the_machine_and_the_helpers(tmp_path: Path) -> None:
    with running(tmp_path / "report") as process:
        name = Live(process).name
        shell = subprocess.run(
            [sys.executable, "-m", "emu", "drgn", "--machine", name],
            input="print('there are', num_online_cpus(), callable(free_pages_of))\n",
            cwd=ROOT, capture_output=True, text=True, timeout=UP_S, check=False,
            env={**os.environ, "HOME": str(tmp_path)},  # it keeps a history there
        )  # fmt: skip
    assert shell.returncode == 0 and "there are 2 True" in shell.stdout, shell.stdout + shell.stderr


def test_without_a_machine(run_emu: RunEmu) -> None:
    done = run_emu("drgn", "-c", "1")
    assert done.returncode == 2 and "0 machines are running" in done.stderr and done.stderr.count("\n") == 1


def test_without_drgn(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "drgn.py").write_text("raise ImportError('not here')\n")
    done = run_emu("drgn", "-c", "1", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2 and "pip install 'emu-pagealloc[drgn]'" in done.stderr, sys.path
