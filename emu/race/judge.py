"""The end of a schedule: is all as it must be? Then memory goes back to what it was, and the next one begins.

The process that made the last step does this, so ten thousand schedules a second need no help from the parent.
"""

from emu.race.area import area_at, race_area
from emu.race.arena import CHUNK, Arena, Memory, arena_at, machine_at
from emu.race.choose import begin_strategy, end_strategy, next_schedule
from emu.race.invariants import check_invariant
from emu.race.kcsan import find_data_races
from emu.race.watch import begin_watch, end_step
from shm.atomic import address
from shm.baton import VERDICT_INVARIANT, VERDICT_OK, VERDICT_PRUNED, Baton, memory_digest, mix, schedule_over, step_over
from shm.turns import begin_schedule
from shm.core import as_entries, core, entry, implements
from shm.memory import copy_memory, same_memory
from shm.struct import Array, At, Struct, array, i64, struct

__all__ = ["JUDGE_ENTRIES", "begin_batch", "digest_all", "end_observed", "learn_chunks", "put_back"]

LOOK_EVERY = 256  # schedules between two comparisons of all memory
WORDS = CHUNK // 8
MASK62 = (1 << 62) - 1


@struct
class Chunk(Struct):
    """A piece of memory as words."""

    _raw_ = True

    words: Array[int] = array(i64, WORDS)


chunk_at = At(Chunk)


@core
def chunk_address(b: Baton, memory: Memory, chunk: int) -> int:
    """Where a chunk of the machine's memory lies."""
    return address(b) + memory.machine + chunk * CHUNK


@core
def image_address(b: Baton, memory: Memory, chunk: int) -> int:
    """Where its first state lies."""
    return address(b) + memory.image + chunk * CHUNK


@core(cold=True)
def learn_memory(b: Baton, memory: Memory) -> int:
    """Compare all memory with its first state: chunks that differ are put back from now on. Returns the new ones."""
    found = 0
    for chunk in range(memory.nr_chunks):
        if memory.known[chunk] == 0:
            if same_memory(chunk_address(b, memory, chunk), image_address(b, memory, chunk), CHUNK) == 0:
                memory.known[chunk] = 1
                memory.dirty[memory.nr_dirty] = chunk
                memory.nr_dirty += 1
                found += 1
    return found


@core
def restore_memory(b: Baton, memory: Memory) -> None:
    """The machine as it was before the first schedule."""
    for i in range(memory.nr_dirty):
        chunk = memory.dirty[i]
        copy_memory(chunk_address(b, memory, chunk), image_address(b, memory, chunk), CHUNK)


@core
def digest_chunk(b: Baton, memory: Memory, chunk: int, noise: int) -> int:
    """Of a chunk without some of its words; 0 for one that is as it was at first."""
    if same_memory(chunk_address(b, memory, chunk), image_address(b, memory, chunk), CHUNK) != 0:
        return 0
    words = chunk_at(b, memory.machine + chunk * CHUNK)
    first = chunk_at(b, memory.image + chunk * CHUNK)
    digest = 0
    for w in range(WORDS):
        if noise >> w & 1 == 0 and words.words[w] != first.words[w]:
            digest = (digest + mix(mix(0, chunk * WORDS + w), words.words[w])) & MASK62
    return digest


@implements(memory_digest)
def digest_memory(b: Baton) -> int:
    """Of everything that schedules change, without counters that only ever grow and what the scheduler itself keeps."""
    memory = arena_at(b, 0).memory
    learn_memory(b, memory)  # the digest must not depend on what earlier schedules happened to change
    digest = 0
    for i in range(memory.nr_dirty):
        digest = (digest + digest_chunk(b, memory, memory.dirty[i], memory.noise[memory.dirty[i]])) & MASK62
    return digest


@entry
def digest_all(b: Baton) -> int:
    """Of all memory that differs from its first state, word by word: equal runs have equal digests, in any mode."""
    memory = arena_at(b, 0).memory
    learn_memory(b, memory)
    digest = 0
    for i in range(memory.nr_dirty):
        digest = (digest + digest_chunk(b, memory, memory.dirty[i], memory.checker[memory.dirty[i]])) & MASK62
    return digest


@implements(step_over)
def check_always(b: Baton) -> int:
    """The invariants that must hold at every point: code << 32 | what is wrong, or 0."""
    arena = arena_at(b, 0)
    m = machine_at(b, arena.memory.machine)
    a = area_at(m, race_area(m))
    for i in range(arena.nr_always):
        wrong = check_invariant(m, a, arena.always[i])
        if wrong != 0:
            return arena.always[i] + 1 << 32 | wrong & 0xFFFFFFFF
    return 0


@core(cold=True)
def check_at_rest(b: Baton, arena: Arena) -> None:
    """All invariants, at the end of a schedule that went well so far."""
    m = machine_at(b, arena.memory.machine)
    a = area_at(m, race_area(m))
    for i in range(arena.nr_checks):
        wrong = check_invariant(m, a, arena.checks[i])
        if wrong != 0:
            b.verdict = VERDICT_INVARIANT
            b.detail = arena.checks[i] + 1 << 32 | wrong & 0xFFFFFFFF
            return


@core
def end_schedule(b: Baton, arena: Arena) -> None:
    """Judge and count."""
    plan = arena.plan
    if b.verdict == VERDICT_OK:
        check_at_rest(b, arena)
    if arena.kcsan.on != 0:
        end_step(arena.watch, b.steps)
        find_data_races(b, arena.watch, arena.kcsan)
    plan.schedules += 1
    plan.most_steps = max(plan.most_steps, b.steps)
    plan.all_steps += b.steps
    end_strategy(b, plan)
    if b.verdict == VERDICT_PRUNED:
        plan.pruned += 1
    elif b.verdict != VERDICT_OK:
        plan.failures += 1


@implements(schedule_over)
def judge(b: Baton) -> bool:
    """One schedule is over. True: the next one has begun; false: the parent is to look."""
    arena = arena_at(b, 0)
    plan = arena.plan
    memory = arena.memory
    end_schedule(b, arena)
    if plan.schedules <= memory.learn_until:
        learn_memory(b, memory)
    elif plan.schedules % LOOK_EVERY == 0 or (b.verdict != VERDICT_OK and b.verdict != VERDICT_PRUNED):
        # a failure counts only if its schedule began in the right memory
        if learn_memory(b, memory) != 0:
            plan.contaminated = 1
    if plan.drift != 0 or plan.contaminated != 0:
        return False
    if b.verdict != VERDICT_OK and b.verdict != VERDICT_PRUNED and plan.stop_at_failure != 0:
        return False
    if not next_schedule(b, plan):
        plan.exhausted = 1
        return False
    if plan.schedules >= plan.limit:
        return False
    restore_memory(b, memory)
    begin_schedule(b)
    begin_watch(b, arena.watch)
    begin_strategy(b, plan)
    return True


@entry
def begin_batch(b: Baton) -> None:
    """Memory as it was, and the first schedule of a batch begins."""
    arena = arena_at(b, 0)
    restore_memory(b, arena.memory)
    begin_schedule(b)
    begin_watch(b, arena.watch)
    begin_strategy(b, arena.plan)


@entry
def end_observed(b: Baton) -> None:
    """The end of a schedule in which the parent chose."""
    end_schedule(b, arena_at(b, 0))


@entry
def put_back(b: Baton) -> None:
    """:func:`restore_memory` for the parent."""
    restore_memory(b, arena_at(b, 0).memory)


@entry
def learn_chunks(b: Baton) -> int:
    """:func:`learn_memory` for the parent."""
    return learn_memory(b, arena_at(b, 0).memory)


JUDGE_ENTRIES = as_entries(begin_batch, digest_all, end_observed, put_back, learn_chunks)
