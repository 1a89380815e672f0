"""The kernel-shaped directory, and the tools that read it."""

import gzip
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest

from emu.proc import render
from emu.proc.extfrag import fragmentation_index, render_extfrag, unusable_free_index
from emu.proc.node import node_files, ranges
from emu.proc.tree import tree
from emu.replay import DEMO
from tests.test_ctl_live import ROOT, UP_S, Live, emu, running

RunEmu = Callable[..., CompletedProcess[str]]
CASE = DEMO[1]


@pytest.fixture(scope="module")
def state() -> dict:
    with gzip.open(CASE, "rt") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def directory(state: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("tree")
    for name, text in tree(state).items():
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_text(text)
    return room


def tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def in_place_of(mounts: dict[str, Path], *command: str) -> str:
    """What a program prints that looks at fixed paths, with our files mounted there for it alone."""
    for name in ("unshare", command[0]):
        tool(name)
    for host in mounts:
        if not Path(host).exists():
            pytest.skip(f"{host} is not there to be mounted over")
    script = "".join(f"mount --bind {ours} {host} && " for host, ours in mounts.items()) + "exec " + " ".join(command)
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((0, 1, 2), "0-2"), ((0, 2, 3, 4, 9), "0,2-4,9"), (range(64), "0-63")]
)
def test_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert ranges(numbers) == text


def test_what_is_there(state: dict, directory: Path) -> None:
    for name in ("buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat", "meminfo"):
        assert (directory / "proc" / name).read_text() == render(name, state)
    nodes = directory / "sys/devices/system/node"
    assert (nodes / "online").read_text() == ranges(state["nodes_online"]) + "\n"
    assert {path.name for path in nodes.glob("node*")} == {f"node{nid}" for nid in state["nodes_online"]}
    assert (directory / "proc/sys/vm/min_free_kbytes").read_text() == f"{state['sysctl']['min_free_kbytes']}\n"
    assert (directory / "proc/sys/vm/lowmem_reserve_ratio").read_text().split() == [
        str(ratio) for ratio in state["sysctl"]["lowmem_reserve_ratio"]
    ]


def test_nodes_add_up_to_the_machine(state: dict) -> None:
    files = node_files(state)
    whole = render("meminfo", state)
    for name in ("MemTotal", "MemFree", "Active(file)", "Mlocked", "PageTables", "SUnreclaim"):
        (total,) = re.findall(rf"^{re.escape(name)}: +(\d+) kB", whole, re.MULTILINE)
        parts = [
            int(n) for file, text in files.items() if file.endswith("/meminfo")
            for n in re.findall(rf"^Node \d+ {re.escape(name)}: +(\d+) kB", text, re.MULTILINE)
        ]  # fmt: skip
        assert len(parts) == len(state["nodes"]) and sum(parts) == int(total)


def test_masks_of_many_cpus(state: dict) -> None:
    many = {**state, "cpus_possible": 70, "cpus": 70, "cpu_node": [0] * 69 + [1]}
    files = node_files(many)
    assert files["node0/cpumap"] == "1f,ffffffff,ffffffff\n" and files["node1/cpumap"] == "20,00000000,00000000\n"
    assert files["node1/cpulist"] == "69\n"


@pytest.mark.parametrize(
    ("nr_free", "order", "unusable", "index"),
    [([0] * 11, 3, 1000, 0), ([8] + [0] * 10, 0, 0, -1000), ([8] + [0] * 10, 3, 1000, 750),
     ([4, 0, 1] + [0] * 8, 1, 500, -1000), ([4, 0, 1] + [0] * 8, 4, 1000, 700)],
)  # fmt: skip
def test_indices_by_hand(nr_free: list[int], order: int, unusable: int, index: int) -> None:
    assert unusable_free_index(nr_free, order) == unusable
    assert fragmentation_index(nr_free, order) == index


def test_indices_as_printed(state: dict) -> None:
    line = render_extfrag(state).splitlines()[0]
    assert re.fullmatch(r"Node 0, zone +\w+ (?:-1\.000 |0\.\d{3} ){11}", line)


# --- tools ------------------------------------------------------------------------------------------------------------


def kib(text: str, name: str) -> int:
    """What a meminfo has behind a name."""
    (value,) = re.findall(rf"^(?:Node \d+ )?{re.escape(name)}: +(\d+) kB", text, re.MULTILINE)
    return int(value)


@pytest.mark.tool
def test_numastat(state: dict, directory: Path) -> None:
    nodes = directory / "sys/devices/system/node"
    mounts = {"/sys/devices/system/node": nodes}
    assert in_place_of(mounts, "numastat") == render("numastat", state)
    table = in_place_of(mounts, "numastat", "-m")
    ours = [(nodes / f"node{nid}/meminfo").read_text() for nid in state["nodes_online"]]
    for name in ("MemTotal", "MemFree", "Active(anon)", "FilePages", "Slab", "KernelStack"):
        (row,) = re.findall(rf"^{re.escape(name)} +(.*)$", table, re.MULTILINE)
        values = [kib(text, name) / 1024 for text in ours]
        assert [float(word) for word in row.split()] == pytest.approx([*values, sum(values)], abs=0.006)


@pytest.mark.tool
def test_numactl(state: dict, directory: Path) -> None:
    nodes, cpus = (directory / "sys/devices/system" / name for name in ("node", "cpu"))
    text = in_place_of(
        {"/sys/devices/system/node": nodes, "/sys/devices/system/cpu": cpus}, "numactl", "-H"
    )  # fmt: skip
    assert f"available: {len(state['nodes'])} nodes" in text and "node distances:" in text
    for nid in state["nodes_online"]:
        meminfo = (nodes / f"node{nid}/meminfo").read_text()
        assert f"node {nid} size: {kib(meminfo, 'MemTotal') >> 10} MB" in text
        assert f"node {nid} free: {kib(meminfo, 'MemFree') >> 10} MB" in text
        own = " ".join(str(cpu) for cpu, node in enumerate(state["cpu_node"]) if node == nid)
        assert f"node {nid} cpus: {own}\n" in text
    assert re.search(r"^ +0: +10 +20 *$", text, re.MULTILINE)


@pytest.mark.tool
def test_vmstat(state: dict, directory: Path) -> None:
    proc = directory / "proc"
    printed = in_place_of({f"/proc/{name}": proc / name for name in ("meminfo", "vmstat")}, "vmstat", "-s")
    meminfo = (proc / "meminfo").read_text()
    events = dict(line.split() for line in render("vmstat", state).splitlines())
    for name, words in (("MemTotal", "total memory"), ("MemFree", "free memory"), ("Active", "active memory")):
        assert re.search(rf"^ *{kib(meminfo, name)} K {words}$", printed, re.MULTILINE)
    for name, words in (("pgpgin", "paged in"), ("pgpgout", "paged out"), ("pswpin", "swapped in")):
        assert re.search(rf"^ *{events[name]} (?:K|pages) {words}$", printed, re.MULTILINE)


def test_psutil(state: dict, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(directory / "proc"))
    memory = psutil.virtual_memory()
    assert memory.total == sum(zone["managed"] for zone in state["zones"]) << 12
    assert memory.free == sum(zone["vm_stat"][0] for zone in state["zones"]) << 12
    meminfo, events = (directory / "proc/meminfo").read_text(), state["vm_events"]
    assert memory.available == kib(meminfo, "MemAvailable") << 10
    swap = psutil.swap_memory()
    assert (swap.total, swap.free) == (kib(meminfo, "SwapTotal") << 10, kib(meminfo, "SwapFree") << 10)
    assert (swap.sin, swap.sout) == (events["pswpin"] << 12, events["pswpout"] << 12)


@pytest.fixture
def exporter(directory: Path) -> Iterator[str]:
    program = tool("prometheus-node-exporter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    collectors = [f"--collector.{name}" for name in ("buddyinfo", "zoneinfo", "vmstat")]
    process = subprocess.Popen(
        [program, f"--path.procfs={directory}/proc", f"--web.listen-address={address}", "--collector.disable-defaults",
         "--collector.vmstat.fields=.*", *collectors],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://{address}/metrics"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.tool
def test_prometheus_node_exporter(state: dict, exporter: str) -> None:
    deadline, text = time.monotonic() + 20, ""
    while not text:
        try:
            text = urllib.request.urlopen(exporter, timeout=5).read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([\d.e+-]+)$", text, re.MULTILINE))
    for name in ("buddyinfo", "zoneinfo", "vmstat"):
        assert values[f'node_scrape_collector_success{{collector="{name}"}}'] == "1"
    for line in render("vmstat", state).splitlines():
        name, value = line.split()
        assert float(values[f"node_vmstat_{name}"]) == int(value)
    for zone in state["zones"]:
        of = f'node="{zone["nid"]}",zone="{zone["name"]}"'
        assert float(values[f"node_zoneinfo_managed_pages{{{of}}}"]) == zone["managed"]
        low = zone["watermark"][1] + zone["watermark_boost"]
        assert float(values[f"node_zoneinfo_low_pages{{{of}}}"]) == low
        for order, area in enumerate(zone["free_area"]):
            of = f'node="{zone["nid"]}",size="{order}",zone="{zone["name"]}"'
            assert float(values[f"node_buddyinfo_blocks{{{of}}}"]) == area["nr_free"]


# --- commands ---------------------------------------------------------------------------------------------------------


def test_dump_of_a_saved_state(run_emu: RunEmu, directory: Path, tmp_path: Path) -> None:
    done = run_emu("proc", "--dump", "d", "--state", CASE, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    written = {str(path.relative_to(tmp_path / "d")) for path in (tmp_path / "d").rglob("*") if path.is_file()}
    assert set(told["files"]) == written and "tracing/events/kmem/mm_page_alloc/format" in written
    for path in directory.rglob("proc/*"):
        if path.is_file():
            assert (tmp_path / "d" / path.relative_to(directory)).read_text() == path.read_text()
    assert not [name for name in written if "/." in name]


@pytest.mark.parametrize(
    ("args", "words"),
    [((), "give the name of a file, --dump DIR or --watch DIR"), (("vmstat", "--dump", "d"), "give the name of a file"),
     (("--watch", "d", "--state", str(CASE)), "a saved state doesn't change"), (("--dump", "d"), "0 machines"),
     (("--watch", "d", "--every", "x"), "--every x: not a time"),
     (("--dump", "/proc/nothing", "--state", str(CASE)), "/proc/nothing")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(run_emu: RunEmu, args: tuple[str, ...], words: str) -> None:
    done = run_emu("proc", *args)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.compiled
@pytest.mark.slow
def test_watch_follows_a_machine_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emu", "proc", "--every", "100ms", "--json"]
    with running(tmp_path / "report", "--boot", "page_owner") as process:
        live = Live(process)
        status, out, err = emu("proc", "--dump", tmp_path / "once", "--machine", live.name)
        assert status == 0 and out.endswith(f"next: emu run --like {tmp_path / 'once'}\n"), err
        assert (tmp_path / "once/sys/kernel/debug/page_owner").read_text().startswith("Page allocated via order ")
        assert (tmp_path / "once/proc/lock_stat").read_text().startswith("lock_stat version 0.4\n")
        watches = [
            subprocess.Popen(
                [*command, "--watch", str(tmp_path / name), "--machine", live.name], stdout=subprocess.PIPE, text=True,
                cwd=ROOT,
            ) for name in ("a", "b")
        ]  # fmt: skip
        vmstat = tmp_path / "b/proc/vmstat"
        deadline = time.monotonic() + UP_S
        while not all((tmp_path / name / "proc/vmstat").exists() for name in ("a", "b")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        seen = {vmstat.read_text() for _ in range(20) if not time.sleep(0.05)}
        assert len(seen) > 1 and all(text.endswith("nr_unstable 0\n") for text in seen)
        watches[0].send_signal(signal.SIGTERM)
        told = json.loads(watches[0].communicate(timeout=UP_S)[0])
        assert watches[0].returncode == 0 and told["times"] >= 1 and not told["ended"]
    told = json.loads(watches[1].communicate(timeout=UP_S)[0])
    assert watches[1].returncode == 0 and told["ended"] and told["times"] > 1
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"proc", "sys", "tracing"}
