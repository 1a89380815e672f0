"""Bit-exact against the real kernel: recorded cases on real processes."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emu.verify import verify_case
from emu.workload.case import CaseError, load_case, script_of
from shm.core import INTERPRETED

RunEmu = Callable[..., CompletedProcess[str]]
CASES = Path(__file__).parent / "cases" / "fast"
QUICK = ("highatomic", "numa_policy")
ALL = sorted(p.name for p in CASES.iterdir())


@pytest.mark.parametrize("name", QUICK if INTERPRETED else ALL)
def test_case_matches_completely(name: str) -> None:
    verdict = verify_case(CASES / name)
    assert [str(d) for d in verdict.differences] == []
    assert verdict.operations >= load_case(CASES / name).meta["ops"] - 10


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
