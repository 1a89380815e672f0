"""Requests to a machine: the slot, who serves it, the command line."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from emu.cli import ctl as ctl_module
from emu.cli import main
from emu.cpu.cpuset import EINVAL
from emu.cpu.mempolicy import MPOL_BIND
from emu.reclaim import ctl_client
from emu.reclaim.ctl import (
    CTL_CPUSET_MEMS,
    CTL_KILL,
    CTL_MEMPOLICY,
    CTL_OOM_SCORE_ADJ,
    CTL_SYSCTL,
    EPERM,
    ESRCH,
    ctl_do,
    ctl_serve,
)  # fmt: skip
from emu.reclaim.ctl_client import ctl_command, refuse, request, set_sysctl
from emu.zone.init_vm import flusher_party
from emu.zone.sysctl import SYSCTLS
from tests.bench import two_nodes
from tests.reclaim.oom import Killer, killer


@contextmanager
def served() -> Iterator[Killer]:
    """A machine whose flusher, a process of its own, serves requests."""
    with killer(two_nodes(4096)) as b:
        b.strict = True
        pid = os.fork()
        if pid == 0:
            while not b.m.stop:
                ctl_serve(b.m, b.cpu(flusher_party(b.m)))
            os._exit(0)
        try:
            yield b
        finally:
            b.m.stop = 1
            os.waitpid(pid, 0)
            b.m.stop = 0


def do(b: Killer, code: int, *args: int) -> int:
    return int(ctl_do(b.m, b.cpu(), code, *(*args, 0, 0, 0)[:3]))


def test_request_goes_through_the_slot() -> None:
    with served() as b:
        assert request(b.m, CTL_SYSCTL, SYSCTLS["swappiness"].number, 0, 77) == 0
        assert b.m.swappiness == 77
        assert request(b.m, CTL_SYSCTL, SYSCTLS["swappiness"].number, 0, 201) == -EINVAL
        assert (b.vm.ctl.client, b.m.swappiness) == (0, 77)


def test_slot_of_a_client_that_is_gone_is_taken_over() -> None:
    with served() as b:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        b.vm.ctl.client = pid
        assert request(b.m, CTL_SYSCTL, SYSCTLS["swappiness"].number, 0, 5) == 0


def test_nobody_answers() -> None:
    with killer(two_nodes(4096)) as b:
        with pytest.raises(TimeoutError, match="does not answer"):
            request(b.m, CTL_SYSCTL, 0, 0, 1, timeout=0.0)
        assert b.vm.ctl.client == 0
        assert not ctl_serve(b.m, b.cpu())  # it was withdrawn


def test_sysctl_of_several_values_and_none() -> None:
    with served() as b:
        set_sysctl(b.m, "lowmem_reserve_ratio", [1, 2, 3])
        assert list(b.m.lowmem_reserve_ratio) == [1, 2, 3, 0]
        for name, values in (("swappiness", []), ("swappiness", [1, 2]), ("panic_on_oom", [3]), ("nonsense", [1])):
            with pytest.raises(OSError, match="EINVAL|ENOENT"):
                set_sysctl(b.m, name, values)


def test_command_of_an_idle_cpu() -> None:
    with killer(two_nodes(4096)) as b:
        for i, value in enumerate((CTL_SYSCTL, SYSCTLS["swappiness"].number, 0, 13)):
            b.cpu().command_args[i] = value
        assert ctl_command(b.board, 0) == 0
        assert b.m.swappiness == 13


def test_tasks() -> None:
    with killer(two_nodes(4096)) as b:
        b.spawn(0, 10)
        user = b.number(0)
        assert do(b, CTL_CPUSET_MEMS, 0, 0b10) == 0
        assert b.task().mems_allowed == 0b10
        assert do(b, CTL_MEMPOLICY, user, MPOL_BIND, 0b10) == 0
        assert b.user(0).mempolicy.nodes == 0b10
        assert do(b, CTL_OOM_SCORE_ADJ, user, 1001) == -EINVAL
        assert do(b, CTL_OOM_SCORE_ADJ, user, -1000) == 0
        assert b.user(0).oom_score_adj == -1000
        assert do(b, CTL_KILL, 0) == -EPERM  # a CPU's own
        assert do(b, CTL_KILL, b.number(1)) == -ESRCH
        assert do(b, CTL_KILL, b.m.nr_tasks) == -ESRCH
        assert do(b, CTL_KILL, user) == 0
        assert b.user(0).alive == 0
        assert do(b, 99) == -EINVAL


def run(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["emu", "ctl", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as b:
        b.spawn(0, 10)
        monkeypatch.setattr(ctl_module, "attached", lambda name: nullcontext(b))

        def emu(text: str) -> tuple[int, str, str]:
            return run(text.split(), monkeypatch, capsys)

        assert emu("sysctl vm.swappiness") == (0, "vm.swappiness = 60\n", "")
        assert emu("sysctl vm.swappiness=10") == (0, "vm.swappiness = 10\n", "")
        assert emu("sysctl swappiness=999") == (2, "", "emu: vm.swappiness: EINVAL (Invalid argument)\n")
        assert emu("machine sysctl vm.swappiness --json") == (0, json.dumps({"vm.swappiness": 10}) + "\n", "")
        assert emu("cpuset cpu0 mems=1")[0] == 0
        assert b.task().mems_allowed == 0b10
        assert emu("cpuset cpu0 mems=7")[2] == "emu: cpuset of cpu0: EINVAL (Invalid argument)\n"
        assert emu("cpuset cpu1 mems=")[2] == "emu: cpuset of cpu1: ENOSPC (No space left on device)\n"
        assert emu("mempolicy 2000 bind=0=static")[0] == 0
        assert (b.user(0).mempolicy.nodes, b.user(0).mempolicy.policy_flags) == (1, 1 << 15)
        assert emu("oom_score_adj 2000=-500")[0] == 0
        assert b.user(0).oom_score_adj == -500
        assert emu("memory 0x8000000000 offline")[2].endswith("EINVAL (Invalid argument)\n")
        assert emu("kill 2000") == (0, "2000: killed\n", "")
        assert emu("kill 2000")[2] == "emu: task 2000: ESRCH (No such process)\n"
        for bad in ("nonsense", "sysctl vm.nonsense=1", "sysctl vm.swappiness=many", "cpuset cpu9 mems=0", "kill 7",
                    "mempolicy cpu0 sideways", "cpuset cpu0 mems=1-", "memory here offline", "memory 0 away",
                    "sysctl vm.drop_caches"):  # fmt: skip
            status, out, err = emu(bad)
            assert (status, out) == (2, "") and err.startswith("emu: ") and err.count("\n") == 1


def test_refusal_has_the_kernels_name() -> None:
    assert str(refuse(-16, "memory")) == "[Errno 16] EBUSY (Device or resource busy): 'memory'"
    assert ctl_client.TIMEOUT_S > 1
