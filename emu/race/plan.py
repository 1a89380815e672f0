"""What the strategies share: the state of an exploration (``struct Plan``), and small tools."""

from shm.baton import MAX_STEPS, mix
from shm.core import core
from shm.struct import Array, Struct, array, i32, i64, struct, u32

__all__ = [
    "MAX_SITES",
    "MAX_SWITCHES",
    "STRATEGIES",
    "Node",
    "Plan",
    "Switch",
    "random_below",
    "random_bit",
    "random_bits",
    "variable_of",
]  # fmt: skip

STRATEGIES = ("exhaustive", "random", "pct", "pos", "surw", "robin", "replay", "dpor")
EXHAUSTIVE, RANDOM, PCT, POS, SURW, ROBIN, REPLAY, DPOR = range(8)

MAX_SWITCHES = 2048
MAX_SITES = 1024
MAX_ACTORS = 64
MAX_CHANGES = 16


@struct
class Node(Struct):
    """A decision of the depth-first search: who could run, who is still to be tried."""

    _raw_ = True

    enabled: int = i64()
    todo: int = i64()
    sleep: int = i64()  # whose next step was explored from here already, and commutes with all since
    chosen: int = i32()
    current: int = i32()
    step: int = i64()  # the number of the step that it decides
    spent: int = i64()  # dpor: who was asleep when it was met, and needn't be tried


@struct
class Switch(Struct):
    """A step of a schedule: when ``actor`` stands at its ``visit``-th time at ``site``, ``target`` goes on."""

    _raw_ = True

    actor: int = i32()
    site: int = u32()
    visit: int = i32()
    target: int = i32()


@struct
class Plan(Struct):
    """An exploration: which strategy, how far, and what it has seen."""

    _raw_ = True

    strategy: int = i32()
    stop_at_failure: int = i32()
    seed: int = i64()
    rng: int = i64()
    limit: int = i64()  # schedules of this batch
    schedules: int = i64()  # done
    pruned: int = i64()
    failures: int = i64()
    exhausted: int = i32()
    contaminated: int = i32()  # a chunk was met that earlier schedules had changed and nobody had put back
    drift: int = i32()  # what a replay did not find: number of the switch + 1
    cut: int = i32()  # a bound kept something from being explored
    most_steps: int = i64()
    all_steps: int = i64()
    # bounds of the exhaustive search; negative: none
    preemption_bound: int = i64()
    delay_bound: int = i64()
    nr_nodes: int = i64()
    at_node: int = i64()  # the next decision
    delays: int = i64()
    nodes: Array[Node] = array(Node, MAX_STEPS)
    # sampling
    depth: int = i64()  # d of PCT
    steps_estimate: int = i64()
    nr_changes: int = i64()
    changes: Array[int] = array(i64, MAX_CHANGES)  # steps at which PCT lowers a priority
    priority: Array[int] = array(i64, MAX_ACTORS)
    left: Array[int] = array(i64, MAX_ACTORS)  # SURW: events of interest still to come, by actor
    expected: Array[int] = array(i64, MAX_ACTORS)  # as counted in earlier schedules
    interest: int = i64()  # SURW: the variable whose events are interesting; 0: all
    intended: int = i32()
    lenient: int = i32()  # replay: what isn't found is left out
    # replay
    nr_switches: int = i64()
    next_switch: int = i64()
    switches: Array[Switch] = array(Switch, MAX_SWITCHES)
    # what a site touches, by site number
    nr_sites: int = i64()
    sites: Array[int] = array(u32, MAX_SITES)
    variables: Array[int] = array(u32, MAX_SITES)


@core
def random_bits(plan: Plan) -> int:
    """62 random bits (splitmix-like; the state is the plan's)."""
    plan.rng = (plan.rng + 0x1E3779B97F4A7C15) & ((1 << 62) - 1)  # no overflow: see mix()
    return mix(mix(plan.rng, plan.seed), 0x2545F4914F6CDD1D)


@core
def random_below(plan: Plan, n: int) -> int:
    """0 to n - 1."""
    return (random_bits(plan) >> 8) % n


@core
def random_bit(plan: Plan, mask: int) -> int:
    """The number of one of the bits of a mask, each as likely."""
    count = 0
    rest = mask
    while rest != 0:
        count += 1
        rest &= rest - 1
    skip = random_below(plan, count)
    at = 0
    while True:
        if mask >> at & 1 != 0:
            if skip == 0:
                return at
            skip -= 1
        at += 1


@core
def variable_of(plan: Plan, where: int) -> int:
    """What a site touches, as a number; the site itself if its name doesn't say."""
    low = 0
    high = plan.nr_sites
    while low < high:
        middle = (low + high) // 2
        if plan.sites[middle] < where:
            low = middle + 1
        else:
            high = middle
    if low < plan.nr_sites and plan.sites[low] == where:
        return plan.variables[low]
    return where
