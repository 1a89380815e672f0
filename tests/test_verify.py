"""Bit-exact against the real kernel: recorded cases on real processes."""

import copy
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emu.verify import verify_case
from emu.workload import script as s
from emu.workload.case import CaseError, load_case, script_of
from emu.workload.compare import after_differences, unseen_folds
from shm.core import INTERPRETED

RunEmu = Callable[..., CompletedProcess[str]]
CASES = Path(__file__).parent / "cases" / "fast"
QUICK = ("highatomic", "numa_policy")
ALL = sorted(p.name for p in CASES.iterdir())
SLOW = sorted(p.name for p in (CASES.parent / "slow").iterdir())
# what was read without a lock at another instant, where tasks met
READS = {"oom_kill_steal": "type that the block of page", "cookie_race": "another mems_allowed"}


@pytest.mark.parametrize("name", QUICK if INTERPRETED else ALL)
def test_case_matches_completely(name: str) -> None:
    verdict = verify_case(CASES / name)
    assert [str(d) for d in verdict.differences] == []
    assert verdict.operations >= load_case(CASES / name).meta["ops"] - 10


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("processes", [None, 1])
@pytest.mark.parametrize("name", SLOW)
def test_driven_case_matches(name: str, processes: int | None) -> None:
    verdict = verify_case(CASES.parent / "slow" / name, processes=processes)
    assert verdict.level == "driven" and [str(d) for d in verdict.differences] == []
    assert any(READS[name] in read.where for read in verdict.reads) if name in READS else True


@pytest.mark.compiled
@pytest.mark.parametrize("name", ALL)
def test_without_tracing_it_decides_the_same(name: str) -> None:
    """The allocator takes shortcuts where nobody watches: none may show."""
    verdict = verify_case(CASES / name, traced=False)
    assert [str(d) for d in verdict.differences] == []


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("mode", "names"), [("checked", ALL), ("interpreted", QUICK)])
def test_the_other_modes_decide_the_same(run_emu: RunEmu, mode: str, names: list[str]) -> None:
    result = run_emu("verify", *(CASES / name for name in names), "-q", mode=mode, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(names)} of {len(names)} cases match" in result.stdout


@pytest.mark.compiled
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("name", ["race_2cpu", "drain", "numa_fallback"])
def test_number_of_processes_changes_nothing(name: str, processes: int) -> None:
    assert verify_case(CASES / name, processes=processes).matches


def _changed(tmp_path: Path, file: str, change: object) -> Path:
    """A copy of a case with one value of a JSON file changed."""
    path = tmp_path / "fast" / "highatomic"
    shutil.copytree(CASES / "highatomic", path)
    with gzip.open(path / file, "rt") as old:
        state = json.load(old)
    change(state)  # type: ignore[operator]
    with gzip.open(path / file, "wt") as new:
        json.dump(state, new)
    return path


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda s: s["zones"][1]["free_area"][3]["lists"][0].reverse(), "free_area"),
        (lambda s: s["zones"][1]["vm_stat"].__setitem__(0, 1), "vm_stat"),
        (lambda s: s["zones"][1]["pcp"][0].__setitem__("count", 99), "count"),
        (lambda s: s["zones"][1]["pageblocks"][4].__setitem__(1, 2), "pageblock"),
        (lambda s: s["zones"][1].__setitem__("nr_reserved_highatomic", 7), "nr_reserved_highatomic"),
        (lambda s: s["zones"][1].__setitem__("watermark_boost", 5), "watermark_boost"),
        (lambda s: s["vm_events"].__setitem__("pgfree", 5), "pgfree"),
    ],
)
def test_a_changed_record_is_noticed(tmp_path: Path, change: object, where: str) -> None:
    verdict = verify_case(_changed(tmp_path, "after.json.gz", change))
    assert any(where in d.where for d in verdict.differences)


def test_a_changed_pfn_is_the_first_difference(tmp_path: Path) -> None:
    path = tmp_path / "fast" / "highatomic"
    shutil.copytree(CASES / "highatomic", path)
    with gzip.open(path / "ops.jsonl.gz", "rt") as old:
        ops = [json.loads(line) for line in old]
    victim = next(op for op in ops[100:] if op["op"] == "a" and op["pfn"] >= 0)
    victim["pfn"] += 1
    with gzip.open(path / "ops.jsonl.gz", "wt") as new:
        new.writelines(json.dumps(op) + "\n" for op in ops)
    first = verify_case(path).differences[0]
    assert first.where.startswith(f"op {victim['seq']} ") and first.kernel == victim["pfn"] == first.ours + 1


def test_what_operations_saw_of_each_other_is_listed() -> None:
    """They overlap: no counter need be what it is after the operation alone, but it is one that it had meanwhile."""
    verdict = verify_case(CASES / "race_2cpu_overlap")
    assert verdict.matches and len(verdict.reads) > 100
    assert all(": free" in read.where for read in verdict.reads)


def test_a_note_that_nothing_explains_is_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "fast" / "race_2cpu_overlap"
    shutil.copytree(CASES / "race_2cpu_overlap", path)
    with gzip.open(path / "ops.jsonl.gz", "rt") as old:
        ops = [json.loads(line) for line in old]
    ops[50]["free"] += 2000
    ops[60]["freediff"] += 1
    with gzip.open(path / "ops.jsonl.gz", "wt") as new:
        new.writelines(json.dumps(op) + "\n" for op in ops)
    assert [d.where.split(": ")[1] for d in verify_case(path).differences] == ["free", "freediff"]


def test_folded_after_the_snapshot_had_looked(tmp_path: Path) -> None:
    """A CPU's own interrupts are off while its snapshot is taken, another's vmstat worker runs: it is an operation."""
    path = tmp_path / "fast" / "drain"
    shutil.copytree(CASES / "drain", path)
    with gzip.open(path / "before.json.gz", "rt") as file:
        before = json.load(file)
    zone = next(z for z in before["zones"] if z["pcp"][1]["count"])
    zone["pcp"][1]["vm_stat_diff"][:3] = [-3, 2, 0]
    with gzip.open(path / "before.json.gz", "wt") as file:
        json.dump(before, file)
    with gzip.open(path / "trace.txt.gz", "rt") as file:
        lines = file.readlines()
    end = next(i for i, line in enumerate(lines) if "what=snap_end a=98" in line)
    where = f"nid={zone['nid']} zid={zone['zid']}"
    head = f"     kworker/1:1-19      [001] ....   %d: oracle_vmstat_fold: {where} item=%d v=%d\n"
    lines[end:end] = [head % (1, 0, -3), head % (2, 1, 4), head % (3, 2, 0)]
    with gzip.open(path / "trace.txt.gz", "wt") as file:
        file.writelines(lines)
    case = load_case(path)
    assert [(line["item"], line["v"]) for line in case.trace if line.seq < 10] == [(0, -3)], "the others it had seen"
    assert (script_of(case)[0].code, script_of(case)[0].cpu) == (s.OP_FOLD, 1)


@pytest.mark.parametrize(
    ("event", "old", "new"),
    [
        (" mm_page_free: ", "pfn=", "pfm="), (" oracle_wmark_fail: ", "zid=", "zip="),
        (" oracle_op: ", "seq=", "sex="),
    ],
)  # fmt: skip
def test_an_event_without_a_field_is_one_line(tmp_path: Path, event: str, old: str, new: str) -> None:
    path = tmp_path / "slow" / "slow_nothing"
    shutil.copytree(CASES.parent / "slow" / "slow_nothing", path)
    with gzip.open(path / "trace.txt.gz", "rt") as file:
        lines = file.readlines()
    inside = next(i for i, line in enumerate(lines) if "what=snap_end a=98" in line)
    at = next(i for i, line in enumerate(lines) if i > inside and event in line)
    lines[at] = lines[at].replace(old, new)
    lines.insert(inside, "     kworker/1:1-19      [091] ....   9: oracle_vmstat_fold: nid=7 zid=1 item=0 v=-3\n")
    with gzip.open(path / "trace.txt.gz", "wt") as file:
        file.writelines(lines)
    with pytest.raises(CaseError, match=f"event \\d+: {event.strip(' :')} without {old[:-1]}: damaged"):
        verify_case(path)


def test_numa_counters_may_have_been_folded_without_a_trace() -> None:
    after = load_case(CASES / "drain").after
    zone = next(i for i, z in enumerate(after["zones"]) if z["numa_stat"][0] > 100)
    ours = copy.deepcopy(after)
    ours["zones"][zone]["numa_stat"][0] -= 18
    assert list(after_differences(after, ours)) and not list(unseen_folds(after, ours)), "18 hits are missing"
    ours["zones"][zone]["pcp"][1]["numa_stat_diff"][0] += 18
    assert not list(after_differences(after, ours)) and len(list(unseen_folds(after, ours))) == 1
    assert list(after_differences(ours, after)), "we had folded them and the kernel had not"


@pytest.mark.compiled
def test_a_driven_replay_ends_where_it_goes_astray(tmp_path: Path) -> None:
    """What the trace frees later are not the pages that were taken here: freeing those would break the lists."""
    path = tmp_path / "slow" / "reclaim_2cpu"
    shutil.copytree(CASES.parent / "slow" / "reclaim_2cpu", path)
    with gzip.open(path / "trace.txt.gz", "rt") as file:
        lines = file.readlines()
    wrong = [i for i, line in enumerate(lines) if " mm_page_alloc: " in line and " order=0 " in line][200]
    lines[wrong] = re.sub(r"pfn=(\d+)", lambda m: f"pfn={int(m[1]) + 1}", lines[wrong])
    with gzip.open(path / "trace.txt.gz", "wt") as file:
        file.writelines(lines)
    *_, pfn, rest = verify_case(path).differences
    assert ": pfn of order 0" in pfn.where and pfn.kernel == pfn.ours + 1
    assert rest.where == "all that follows from this page"


def test_script_takes_what_others_did_from_the_trace() -> None:
    case = load_case(CASES / "drain")
    steps = script_of(case)
    foreign = [step for step in steps if step.recorded is None]
    assert len(foreign) == 10  # the drains of the five drain_all_pages, by two kworkers
    assert [s.at for s in steps] == sorted(s.at for s in steps)


@pytest.mark.parametrize("damage", ["missing", "truncated trace", "foreign kernel", "not gzip"])
def test_damaged_case_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "case"
    shutil.copytree(CASES / "highatomic", path)
    if damage == "missing":
        (path / "before.json.gz").unlink()
    elif damage == "truncated trace":
        data = (path / "trace.txt.gz").read_bytes()
        (path / "trace.txt.gz").write_bytes(data[: len(data) // 2])
    elif damage == "foreign kernel":
        (path / "meta.json").write_text('{"kernel": "6.1.0"}')
    else:
        (path / "after.json.gz").write_bytes(b"{}")
    with pytest.raises(CaseError) as info:
        load_case(path)
    assert "\n" not in str(info.value) and str(path) in str(info.value)
