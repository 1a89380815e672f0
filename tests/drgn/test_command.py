"""``emu drgn`` on a machine that ``emu run`` runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.test_ctl_live import Live, emu, running

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
        script.write_text("a = 1\nprint(prog['nothing'])\n")
        status, out, err = emu("drgn", script, "--machine", live.name)
        assert status == 2 and err.count("\n") == 1 and f"{script}:2: ObjectNotFoundError" in err
        assert emu("drgn", "-c", "1 +", "--machine", live.name)[2].startswith("emu: -c:1: SyntaxError")


def test_without_a_machine(run_emu: RunEmu) -> None:
    done = run_emu("drgn", "-c", "1")
    assert done.returncode == 2 and "0 machines are running" in done.stderr and done.stderr.count("\n") == 1


def test_without_drgn(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "drgn.py").write_text("raise ImportError('not here')\n")
    done = run_emu("drgn", "-c", "1", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2 and "pip install 'emu-pagealloc[drgn]'" in done.stderr, sys.path
