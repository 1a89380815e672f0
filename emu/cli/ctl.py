"""``emu ctl``: change a running machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.attach import attached
from emu.cli.common import Json, UsageError, app, print_result

if TYPE_CHECKING:
    from emu.zone.mmzone import Machine

_MODES = {"default": 0, "preferred": 1, "prefer": 1, "bind": 2, "interleave": 3, "local": 4}
_MODE_FLAGS = {"static": 1 << 15, "relative": 1 << 14}
_LIMITS = {"max": 0, "high": 1, "kmem": 2}
_ONLINE = {"online": 1, "online_kernel": 2, "online_movable": 3}


@app.command(context_settings={"ignore_unknown_options": True})
def ctl(
    words: Annotated[
        list[str],
        typer.Argument(metavar="WORD", help="A command and its arguments; before it, if you like, a machine."),
    ],
    machine: Annotated[
        str | None, typer.Option(metavar="SEGMENT", help="Segment of the machine (emu ps); default: the only one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a running machine.

    TASK is a pid (emu ctl tasks lists them) or cpuN. What the kernel refuses ends with its error, and nothing changes.

    \b
    sysctl [vm.NAME[=VALUE...]]          read all or one, or write one
    tasks                                list the tasks
    kill TASK                            SIGKILL
    oom_score_adj TASK=VALUE
    cpuset TASK mems=0-1
    mempolicy TASK MODE                  default, local, preferred=N, bind=N or
                                         interleave=N; [=static|=relative]
    memory ADDRESS ACTION [SIZE]         offline, online, online_kernel or
                                         online_movable
    memcg N LIMIT=SIZE                   max, high or kmem
    swap on|off
    """
    name = machine
    if words[0] not in _COMMANDS and name is None and len(words) > 1:
        name, words = words[0], words[1:]
    if words[0] not in _COMMANDS:
        raise UsageError(f"ctl: {words[0]}: not one of {', '.join(_COMMANDS)}")
    with attached(name) as board:
        data, lines = _COMMANDS[words[0]](board.m, words[1:])
    print_result(as_json, data, lines)


def _numbers(text: str, what: str) -> list[int]:
    try:
        return [int(word, 0) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"{what}: {text!r} is not a number") from None


def _number(text: str, what: str) -> int:
    numbers = _numbers(text, what)
    if len(numbers) != 1:
        raise UsageError(f"{what}: {text!r} is not a number")
    return numbers[0]


def _assignment(words: list[str], usage: str) -> tuple[str, str]:
    name, eq, value = "".join(words[:1]).partition("=")
    if len(words) != 1 or not eq:
        raise UsageError(f"ctl: give {usage}")
    return name, value


def _nodes(text: str) -> int:
    mask = 0
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not found or int(found[2] or found[1]) < int(found[1]) or int(found[2] or found[1]) > 63:
            raise UsageError(f"{text!r} is not a list of nodes such as 0-1,3")
        for nid in range(int(found[1]), int(found[2] or found[1]) + 1):
            mask |= 1 << nid
    return mask


def _task(m: Machine, text: str) -> int:
    """A task's place in the table, by pid or by the CPU whose own it is."""
    from emu.zone.sched import TASK_SIZE, Task
    from shm.struct import address_of, record_at

    found = re.fullmatch(r"(cpu)?(\d+)", text)
    if not found:
        raise UsageError(f"{text!r} is not a task: give its pid, or cpuN")
    number = int(found[2])
    if found[1]:
        if number >= m.nr_cpus:
            raise UsageError(f"{text}: the machine has {m.nr_cpus} CPUs")
        return number
    for at in range(m.nr_tasks):
        if record_at(Task, address_of(m) + m.tasks + at * TASK_SIZE).pid == number:
            return at
    raise UsageError(f"{text}: no task has this pid")


def _ask(m: Machine, what: str, code: int, *args: int) -> int:
    from emu.reclaim.ctl_client import refuse, request

    result = request(m, code, *args)
    if result < 0:
        raise refuse(result, what)
    return result


def _sysctl(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl_client import set_sysctl
    from emu.zone.sysctl import SYSCTLS, sysctl_read

    if not words:
        names = [name for name, what in SYSCTLS.items() if what.field]
    else:
        text = " ".join(words)
        name, eq, value = text.partition("=")
        name = name.removeprefix("vm.").strip()
        if name not in SYSCTLS:
            raise UsageError(f"vm.{name}: no such sysctl; there are {', '.join(SYSCTLS)}")
        if eq:
            set_sysctl(m, name, _numbers(value, f"vm.{name}"))
        elif not SYSCTLS[name].field:
            raise UsageError(f"vm.{name}: EACCES (it can only be written)")
        names = [name] if SYSCTLS[name].field else []
    values = {f"vm.{name}": sysctl_read(m, name) for name in names}
    lines = [f"{name} = {' '.join(map(str, value))}" for name, value in values.items()]
    return {name: value[0] if len(value) == 1 else value for name, value in values.items()}, lines


def _cpuset(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl import CTL_CPUSET_MEMS

    if len(words) != 2 or not words[1].startswith("mems="):
        raise UsageError("ctl: give cpuset TASK mems=0-1")
    mask = _nodes(words[1].removeprefix("mems="))
    number = _task(m, words[0])
    _ask(m, f"cpuset of {words[0]}", CTL_CPUSET_MEMS, number, mask)
    return {"task": words[0], "mems": mask}, [f"{words[0]}: {words[1]}"]


def _mempolicy(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl import CTL_MEMPOLICY

    if len(words) != 2:
        raise UsageError("ctl: give mempolicy TASK default|local|preferred=N|bind=N|interleave=N[=static|=relative]")
    name, _, rest = words[1].partition("=")
    nodes, _, flag = rest.partition("=")
    if name not in _MODES or (flag and flag not in _MODE_FLAGS):
        raise UsageError(f"{words[1]}: the policies are {', '.join(_MODES)}, with =static or =relative")
    mode = _MODES[name] | _MODE_FLAGS.get(flag, 0)
    _ask(m, f"policy of {words[0]}", CTL_MEMPOLICY, _task(m, words[0]), mode, _nodes(nodes))
    return {"task": words[0], "policy": words[1]}, [f"{words[0]}: {words[1]}"]


def _memory(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.config import parse_size
    from emu.reclaim.ctl import CTL_OFFLINE, CTL_ONLINE
    from emu.zone.mm_types import Vm
    from shm.struct import address_of, record_at

    if not 2 <= len(words) <= 3 or words[1] not in {"offline", *_ONLINE}:
        raise UsageError("ctl: give memory ADDRESS offline|online|online_kernel|online_movable [SIZE]")
    address = _number(words[0], "address")
    block = record_at(Vm, address_of(m) + m.vm).memory_block
    try:
        pages = parse_size(words[2]) >> 12 if len(words) == 3 else block
    except ValueError as err:
        raise UsageError(str(err)) from err
    if pages < block or pages % block or (address >> 12) % block:
        raise UsageError(f"memory {' '.join(words)}: memory goes offline and online in blocks of {block >> 8}M")
    what = f"memory at {address:#x}"
    if words[1] == "offline":
        _ask(m, what, CTL_OFFLINE, address >> 12, pages)
    else:
        _ask(m, what, CTL_ONLINE, address >> 12, pages, _ONLINE[words[1]])
    data = {"address": address, "bytes": pages << 12, "state": words[1]}
    return data, [f"{what}: {pages >> 8} MiB {words[1]}"]


def _tasks(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The CPUs' tasks and the processes there are now: what the other commands take."""
    from emu.zone.report import node_list, task_comm
    from emu.zone.sched import TASK_SIZE, Task
    from shm.struct import address_of, record_at

    if words:
        raise UsageError("ctl: tasks takes no arguments")
    rows, lines = [], []
    for at in range(m.nr_tasks):
        task = record_at(Task, address_of(m) + m.tasks + at * TASK_SIZE)
        if at < m.nr_cpus or task.alive:
            row = {"task": f"cpu{at}" if at < m.nr_cpus else str(task.pid), "comm": task_comm(m, at)}
            mems, adj = node_list(task.mems_allowed), task.oom_score_adj
            rows.append({**row, "oom_score_adj": adj, "mems": mems})
            lines.append(f"{row['task']:6} {row['comm']:12} oom_score_adj {adj:5}  mems {mems}")
    return {"tasks": rows}, lines


def _kill(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl import CTL_KILL

    if len(words) != 1:
        raise UsageError("ctl: give kill TASK")
    _ask(m, f"task {words[0]}", CTL_KILL, _task(m, words[0]))
    return {"killed": words[0]}, [f"{words[0]}: killed"]


def _oom_score_adj(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl import CTL_OOM_SCORE_ADJ

    name, text = _assignment(words, "oom_score_adj TASK=VALUE")
    value = _number(text, "oom_score_adj")
    _ask(m, f"oom_score_adj of {name}", CTL_OOM_SCORE_ADJ, _task(m, name), value)
    return {"task": name, "oom_score_adj": value}, [f"{name}: oom_score_adj {value}"]


def _memcg(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.config import parse_size
    from emu.reclaim.ctl import CTL_MEMCG

    usage = "memcg N max=SIZE|high=SIZE|kmem=SIZE (0: no limit)"
    name, text = _assignment(words[1:], usage)
    if name not in _LIMITS:
        raise UsageError(f"ctl: give {usage}")
    number = _number(words[0] if words else "", "memory cgroup")
    try:
        pages = parse_size(text) >> 12
    except ValueError as err:
        raise UsageError(str(err)) from err
    _ask(m, f"memory.{name} of cgroup {number}", CTL_MEMCG, number, _LIMITS[name], pages)
    return {"memcg": number, name: pages << 12}, [f"memcg {number}: memory.{name} {pages << 2} KiB"]


def _swap(m: Machine, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    from emu.reclaim.ctl import CTL_SWAPOFF, CTL_SWAPON

    if words not in (["on"], ["off"]):
        raise UsageError("ctl: give swap on|off")
    _ask(m, f"swap{words[0]}", CTL_SWAPON if words == ["on"] else CTL_SWAPOFF, 0)
    return {"swap": words[0]}, [f"swap{words[0]}: done"]


_COMMANDS = {
    "sysctl": _sysctl, "tasks": _tasks, "cpuset": _cpuset, "mempolicy": _mempolicy, "memory": _memory, "kill": _kill,
    "oom_score_adj": _oom_score_adj, "memcg": _memcg, "swap": _swap,
}  # fmt: skip
