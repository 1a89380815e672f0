"""Driven replay: a recorded trace as operations.

:func:`driven_script` takes from the trace what the page allocator does not decide: which pages are freed, isolated
and drained and when, what sits on LRU lists, when counters are folded, what kswapd does to its node. What it decides
(pages, merges, steals, watermarks, boosts, types of pageblocks, counters) is left to the emulator; ``driven_check``
compares it.

An event's context is its CPU, its task and the interrupt it is in, if any; contexts nest on a CPU, and allocations
nest within a context, since reclaim allocates. An action under a lock is placed at its first event with interrupts off,
where no other CPU's action on the same zone can come between; other CPUs' unlocked reads may have seen it half done.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from emu.workload import driven_ops as d
from emu.workload import script as s
from emu.workload.case import OPS, Case, Line, Step, listed_frees
from emu.workload.driven_context import Alloc, Attempt, Context, fields_of, owner_of
from emu.workload.driven_kswapd import Kswapds
from emu.workload.stamps import stamps
from emu.zone.gfp import (
    __GFP_ATOMIC,
    __GFP_THISNODE,
    ALLOC_HARDER,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_WMARK_HIGH,
    ALLOC_WMARK_MASK,
)
from emu.zone.mmzone import MAX_NR_ZONES, MIGRATE_HIGHATOMIC

CONTROL = "yxz"  # operations of a recording driver that set a sysctl
ATOMIC, THISNODE = __GFP_ATOMIC, __GFP_THISNODE  # inside a class the names would be mangled
NO_PAGE = (1 << 64) - 1


class DrivenScript:
    """Builds the steps of a case; see :func:`driven_script`."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.steps: list[Step] = []
        self.allocs: dict[tuple[int, str], list[Alloc]] = {}
        self.waiting: dict[Context, Step] = {}  # a free or drain whose place depends on the context's next event
        self.folds: dict[Context, tuple[int, int, int]] = {}  # the last zone and item folded
        self.tasks: dict[int, tuple[int, int, int, int, int]] = {}  # CPU -> context of its last attempt
        self.retiring: dict[Context, Step] = {}  # kswapd has balanced its node and takes the boosts back
        self.victims: set[int] = set()
        self.interrupts: dict[int, list[Line]] = {}  # CPU -> events of interrupts since its task's last event
        self.kswapds = Kswapds(case.before, self.steps)
        self.listed = listed_frees(case.trace)
        self.stamps = stamps(case)
        self.ops = {op["seq"]: op for op in case.ops if op["op"] in CONTROL}

    def build(self) -> list[Step]:
        """All steps in order."""
        handlers = {name[3:]: getattr(self, name) for name in dir(self) if name.startswith("on_")}
        for line in self.case.trace:
            where = (line.cpu, line.pid, line.flags[2])
            waiting = self.waiting.pop(where, None)
            if waiting is not None:
                if line.event in ("oracle_buddy_free", "mm_page_pcpu_drain"):
                    waiting.at = line.seq
                self.steps.append(waiting)
            if where in self.folds and line.event != "oracle_vmstat_fold":
                del self.folds[where]
            if where in self.retiring and line.event != "oracle_boost":
                del self.retiring[where]
            handler = handlers.get(line.event)
            if handler is not None:
                handler(where, line)
            if line.flags[2] != ".":
                self.interrupts.setdefault(line.cpu, []).append(line)
            elif line.cpu in self.interrupts:
                del self.interrupts[line.cpu]
        self.steps += self.waiting.values()
        self.steps.sort(key=lambda step: step.at)
        return list(self._with_contexts())

    def _with_contexts(self) -> Iterator[Step]:
        """The steps, each attempt and wake-up preceded by what is new about its task."""
        on: dict[int, tuple[int, ...]] = {}
        for step in self.steps:
            task = step.recorded.get("task") if step.recorded else None
            if task is not None and on.get(step.cpu) != task:
                on[step.cpu] = task
                flags, mems, irq, rt, victim = task
                yield Step(step.at, d.OP_CONTEXT, step.cpu, irq, nid=rt, zid=victim, nodemask=mems, n=flags)
            yield step

    # --- frees --------------------------------------------------------------------------------------------------------

    def on_mm_page_free(self, where: Context, line: Line) -> None:
        """A page is freed: to its pageset, or under the zone lock if it is larger, which comes with the next event."""
        f = fields_of(line)
        pfn, order = int(f["pfn"]), int(f["order"])
        if order != 0:
            self.waiting[where] = Step(line.seq, s.OP_FREE_PFN, line.cpu, order=order, pfn=pfn)
            return
        stamp = self.stamps.get(line.seq, -1)
        self.steps.append(Step(line.seq, d.OP_FREE_PREPARE, line.cpu, n=stamp + 1, pfn=pfn))
        if line.seq not in self.listed:
            self.waiting[where] = Step(line.seq, d.OP_FREE_COMMIT, line.cpu, pfn=pfn)

    def on_mm_page_free_batched(self, where: Context, line: Line) -> None:
        """A page of a list goes to its pageset once the list has been prepared."""
        self.waiting[where] = Step(line.seq, s.OP_COMMIT, line.cpu, pfn=int(fields_of(line)["pfn"]))

    def on_oracle_drain(self, where: Context, line: Line) -> None:
        """Pagesets are emptied for others or for their age, or the thresholds of counters change."""
        f = fields_of(line)
        nid, zid, count = int(f["nid"]), int(f["zid"]), int(f["count"])
        if f["who"] == "drain":
            self._between_attempts(where, line)
            self.waiting[where] = Step(line.seq, s.OP_DRAIN_ZONE, line.cpu, nid=nid, zid=zid)
        elif f["who"] == "expire":
            self.waiting[where] = Step(line.seq, s.OP_EXPIRE_ZONE, line.cpu, nid=nid, zid=zid)
        elif f["who"] == "threshold":
            self.steps.append(Step(line.seq, s.OP_THRESHOLD, line.cpu, nid=nid, zid=zid, n=count))

    def on_oracle_vmstat_fold(self, where: Context, line: Line) -> None:
        """Differentials of counters are folded: one step for the items of one pass."""
        f = fields_of(line)
        this = int(f["nid"]), int(f["zid"]), int(f["item"])
        if where not in self.folds or self.folds[where] >= this:
            # not with do_pagesets: pagesets age with every counter that is folded, most of which are others'
            self.steps.append(Step(line.seq, s.OP_FOLD, line.cpu))
        self.folds[where] = this

    # --- compaction, kswapd, the OOM killer ---------------------------------------------------------------------------

    def on_oracle_isolate_free(self, where: Context, line: Line) -> None:
        """Compaction takes a free block."""
        f = fields_of(line)
        self.steps.append(Step(line.seq, d.OP_ISOLATE, line.cpu, int(f["order"]), pfn=int(f["pfn"])))

    def on_oracle_rotate(self, where: Context, line: Line) -> None:
        """Compaction's search turns a free list."""
        f = fields_of(line)
        pfn = int(f["pfn"])
        self.steps.append(Step(line.seq, d.OP_ROTATE, line.cpu, n=int(f["head"]), pfn=pfn if pfn < 1 << 40 else -1))

    def on_mm_vmscan_kswapd_wake(self, where: Context, line: Line) -> None:
        """kswapd goes to work."""
        self.kswapds.wakes(line)

    def on_mm_vmscan_kswapd_sleep(self, where: Context, line: Line) -> None:
        """kswapd lies down on its queue."""
        self.kswapds.sleeps(line)

    def on_oracle_kswapd(self, where: Context, line: Line) -> None:
        """kswapd has balanced its node, or failed to; what it does until it sleeps is taking boosts back."""
        self.retiring[where] = self.kswapds.balanced(line)

    def on_mm_vmscan_wakeup_kswapd(self, where: Context, line: Line) -> None:
        """A wake-up, after the attempt that is under way if there is one."""
        alloc = self._current(where)
        at = line.seq
        if alloc is not None:
            at = alloc.attempt.locked if alloc.attempt.locked >= 0 else alloc.attempt.last
        self.kswapds.woken(line, at)

    def on_mark_victim(self, where: Context, line: Line) -> None:
        """The OOM killer has chosen a task, which may use the reserves from now on."""
        self.victims.add(int(fields_of(line)["pid"]))

    def on_oracle_op(self, where: Context, line: Line) -> None:
        """An operation of the recording driver that changes settings."""
        if line.text.startswith("start"):
            op = self.ops.get(line["seq"])
            if op is not None:
                self.steps.append(Step(line.seq, OPS[op["op"]], line.cpu, n=op.get("n", 0)))

    # --- allocations --------------------------------------------------------------------------------------------------

    def on_oracle_alloc_enter(self, where: Context, line: Line) -> None:
        """An allocation begins, with its fast attempt."""
        enter = fields_of(line)
        attempt = Attempt(d.ATTEMPT_FAST, line.seq, line.cpu, flags=int(enter["alloc_flags"], 0))
        self.allocs.setdefault(owner_of(where), []).append(Alloc(enter, attempt))

    def _current(self, where: Context) -> Alloc | None:
        stack = self.allocs.get(owner_of(where))
        return stack[-1] if stack else None

    def _task(self, where: Context, alloc: Alloc) -> tuple[int, ...]:
        enter = alloc.enter
        victim = int(where[1] in self.victims)
        return int(enter["pflags"], 0), int(enter["mems"], 0), int(enter["irq"]), int(alloc.rt), victim

    def _step(self, where: Context, alloc: Alloc, at: int, code: int, **more: Any) -> Step:
        e = alloc.enter
        nid, nodemask = int(e["nid"]), int(e["nodemask"], 0)
        recorded = {"task": self._task(where, alloc), **more.pop("recorded", {})}
        order, gfp = int(e["order"]), int(e["gfp"], 0)
        return Step(at, code, where[0], order, gfp, nid=nid, nodemask=nodemask, recorded=recorded, **more)

    def _end_attempt(self, where: Context, alloc: Alloc, pfn: int, at: int) -> None:
        """An attempt is over, without a page if ``pfn`` is -1; ``at`` is its place if it took no lock, or found nothing
        under one, which leaves no event: others may have taken what there was while it waited."""
        attempt = alloc.attempt
        if pfn < 0 and not attempt.failed and attempt.locked < 0:
            return
        if pfn >= 0 and self._zone_of(pfn) in attempt.failed and not attempt.flags & ALLOC_NO_WATERMARKS:
            # reclaim makes two attempts, with all CPUs drained in between by workers; a fast one may have two passes
            alloc.attempt = replace(attempt, locked=-1, lru=[])
            self._end_attempt(where, alloc, -1, attempt.last)
            attempt.failed = {}
            if attempt.kind == d.ATTEMPT_FAST:
                attempt.kind, attempt.flags = d.ATTEMPT_SECOND_PASS, -1
        late = pfn >= 0 or not self._zones(alloc) <= attempt.failed.keys()
        place = attempt.locked if attempt.locked >= 0 else at if late else attempt.last
        cpu = where[0] if pfn >= 0 else attempt.cpu
        for step in attempt.lru:
            step.at = place
            self.steps.append(step)
        mask = 0
        for zone in attempt.failed:
            mask |= 1 << zone
        self.steps.append(self._step(
            (cpu, *where[1:]), alloc, place, d.OP_ATTEMPT, handle=mask, zid=attempt.flags, n=attempt.kind, pfn=pfn,
            recorded={"failed": attempt.failed},
        ))  # fmt: skip

    def _zones(self, alloc: Alloc) -> set[int]:
        """The zones that an allocation may use."""
        e = alloc.enter
        nodes, mems, highest = int(e["nodemask"], 0) or -1, int(e["mems"], 0), int(e["hzi"])
        if int(e["gfp"], 0) & THISNODE:
            nodes = 1 << int(e["nid"])
        return {
            z["nid"] * MAX_NR_ZONES + z["zid"] for z in self.case.before["zones"]
            if z["managed"] and z["zid"] <= highest and nodes & mems & 1 << z["nid"]
        }  # fmt: skip

    def _zone_of(self, pfn: int) -> int:
        return next((z["nid"] * MAX_NR_ZONES + z["zid"] for z in self.case.before["zones"]
                     if z["start_pfn"] <= pfn < z["start_pfn"] + z["spanned"]), -1)  # fmt: skip

    def _next_attempt(self, where: Context, alloc: Alloc, seq: int) -> None:
        alloc.attempt = Attempt(alloc.kind, seq, where[0])
        alloc.reclaiming = False

    def on_oracle_wmark_fail(self, where: Context, line: Line) -> None:
        """A zone is refused: in this attempt, or in the next one if it had been refused already."""
        alloc = self._current(where)
        if alloc is None:
            return
        f = fields_of(line)
        zone, flags = int(f["nid"]) * MAX_NR_ZONES + int(f["zid"]), int(f["alloc_flags"], 0)
        kind = d.ATTEMPT_OOM if flags & ALLOC_WMARK_MASK == ALLOC_WMARK_HIGH else alloc.kind
        attempt = alloc.attempt
        if attempt.nofragment and not flags & ALLOC_NOFRAGMENT:
            attempt.seen.clear()  # its second pass
        if kind != attempt.kind or zone in attempt.seen:
            self._end_attempt(where, alloc, -1, line.seq)
            self._next_attempt(where, alloc, line.seq)
            alloc.attempt.kind = kind
        attempt = alloc.attempt
        attempt.nofragment = bool(flags & ALLOC_NOFRAGMENT)
        if attempt.flags < 0:
            attempt.flags = flags
        attempt.failed[zone] = int(f["free"])
        attempt.seen.add(zone)
        attempt.last, attempt.cpu = line.seq, line.cpu

    def _between_attempts(self, where: Context, line: Line) -> None:
        """Reclaim, compaction or a drain: whatever attempt there was has failed."""
        alloc = self._current(where)
        if alloc is not None and not alloc.reclaiming:
            self._end_attempt(where, alloc, -1, line.seq)
            self._next_attempt(where, alloc, line.seq)

    def on_mm_vmscan_direct_reclaim_begin(self, where: Context, line: Line) -> None:
        """Direct reclaim: the attempt before it failed."""
        self._between_attempts(where, line)
        alloc = self._current(where)
        if alloc is not None:
            alloc.reclaiming, alloc.hopeless = True, False

    def on_mm_vmscan_direct_reclaim_end(self, where: Context, line: Line) -> None:
        """Direct reclaim is over, and an attempt follows."""
        alloc = self._current(where)
        if alloc is not None:
            self._next_attempt(where, alloc, line.seq)

    def on_mm_compaction_try_to_compact_pages(self, where: Context, line: Line) -> None:
        """Direct compaction: the attempt before it failed."""
        self._between_attempts(where, line)

    def on_oracle_slowpath(self, where: Context, line: Line) -> None:
        """A step of the slow path, which says what kind its next attempt is."""
        alloc = self._current(where)
        if alloc is None:
            return
        f = fields_of(line)
        step, flags = f["step"], int(f["alloc_flags"], 0)
        alloc.hopeless = step in ("reclaim", "compact")
        if step == "got" or (step not in ("start", "retry", "nopage", "fail") and int(f["b"]) >= 0):
            return  # it has its page
        self._end_attempt(where, alloc, -1, line.seq)
        if step in ("start", "retry"):
            alloc.kind = d.ATTEMPT_START if step == "start" else d.ATTEMPT_RETRY
            if step == "start":
                alloc.rt = bool(flags & ALLOC_HARDER) and not int(f["gfp"], 0) & ATOMIC
            self.steps.append(self._step(where, alloc, line.seq, d.OP_WAKE, n=d.ATTEMPT_START))
            self.kswapds.asked(line, int(f["order"]))
        elif step == "nopage":
            alloc.kind = d.ATTEMPT_NOFAIL
        self._next_attempt(where, alloc, line.seq)

    def _under_lock(self, where: Context, line: Line) -> None:
        alloc = self._current(where)
        if alloc is not None and alloc.attempt.locked < 0:
            alloc.attempt.locked = line.seq

    on_mm_page_alloc_extfrag = _under_lock

    def on_mm_page_alloc_zone_locked(self, where: Context, line: Line) -> None:
        """The last page taken is where the free count drops, which others read without the lock; so is the boost."""
        alloc = self._current(where)
        if alloc is not None and not alloc.attempt.boosted:
            alloc.attempt.locked = line.seq

    def on_oracle_boost(self, where: Context, line: Line) -> None:
        """A boost is raised by the current attempt, under the zone lock, or cut by kswapd."""
        f = fields_of(line)
        alloc = self._current(where)
        if alloc is not None and not alloc.reclaiming:
            if not alloc.attempt.boosted:
                alloc.attempt.locked = line.seq
            alloc.attempt.boosted |= f["old"] != f["new"]
            return
        nid, zid, old, new = int(f["nid"]), int(f["zid"]), int(f["old"]), int(f["new"])
        cut = Step(line.seq, d.OP_CUT_BOOST, line.cpu, nid=nid, zid=zid, n=old - new, recorded={"boost": new})
        self.steps.append(cut)
        if where in self.retiring:
            self.retiring[where].at = line.seq

    def on_oracle_pageblock(self, where: Context, line: Line) -> None:
        """A pageblock changes its type: the attempt holds the zone lock."""
        alloc = self._current(where)
        if alloc is not None and not alloc.reclaiming:
            self._under_lock(where, line)

    def on_oracle_move_freepages(self, where: Context, line: Line) -> None:
        """The free pages of a pageblock change lists, for a fallback or because a reserved block is given back."""
        alloc = self._current(where)
        if alloc is None or alloc.reclaiming:
            return
        f = fields_of(line)
        start, end, movable = int(f["start"]), int(f["end"]), int(f["movable"])
        if movable >= 0:
            self._under_lock(where, line)
            alloc.attempt.lru.append(Step(line.seq, d.OP_LRU, line.cpu, handle=end - start + 1, n=movable, pfn=start))
        elif int(f["mt"]) != MIGRATE_HIGHATOMIC:  # a reserved block is given back
            force = int(alloc.hopeless)
            self.steps.append(self._step(where, alloc, line.seq, d.OP_UNRESERVE, zid=force, n=alloc.attempt.kind))
            alloc.attempt.locked = -1
            self._between_attempts(where, line)

    def on_mm_page_alloc(self, where: Context, line: Line) -> None:
        """The allocation is over, with a page or without."""
        stack = self.allocs.get(owner_of(where))
        if not stack:
            return
        alloc = stack.pop()
        f = fields_of(line)
        pfn = int(f["pfn"])
        if pfn == NO_PAGE or set(f["page"]) == {"0"}:
            pfn = -1
        self._end_attempt(where, alloc, pfn, self._taken_at(where, line, pfn))

    def _taken_at(self, where: Context, line: Line, pfn: int) -> int:
        """When a page came off the pcp list: before an interrupt that came in since, unless the interrupt freed it."""
        came = self.interrupts.get(line.cpu, []) if where[2] == "." else []
        freed = any(i.event == "mm_page_free" and int(fields_of(i)["pfn"]) == pfn for i in came)
        return line.seq if not came or freed else came[0].seq - 1


def driven_script(case: Case) -> list[Step]:
    """The operations of a recorded case for a driven replay, in trace order."""
    return DrivenScript(case).build()
