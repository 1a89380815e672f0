"""Memory cgroups: charges, limits, and what setting a limit refuses."""

from emu.mm.memcontrol import MEMCG_HIGH, MEMCG_KMEM, MEMCG_MAX
from emu.zone.gfp import __GFP_NOFAIL, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, PF_MEMALLOC
from tests.mm.iobench import IoBench, iobench

ENOMEM, EINVAL, EBUSY = -12, -22, -16


def charged(b: IoBench, count: int, memcg: int) -> list[int]:
    pfns = [b.call("anon_page", 1, i, memcg) for i in range(count)]
    for pfn in pfns:
        if pfn > 0:
            b.call("unlock_page", pfn)
    return pfns


def release(b: IoBench, pfns: list[int]) -> None:
    for pfn in pfns:
        b.call("put_page", pfn)
    b.call("lru_add_drain")


def test_a_page_carries_its_group_until_it_is_freed() -> None:
    with iobench() as b:
        pfns = charged(b, 3, 2)
        assert b.m.memcgs[1].memory == 3
        assert [b.memcg_of(pfn) for pfn in pfns] == [2, 2, 2]
        release(b, pfns)
        assert b.m.memcgs[1].memory == 0


def test_the_root_is_not_charged() -> None:
    with iobench() as b:
        pfns = charged(b, 2, 0)
        assert [group.memory for group in b.m.memcgs] == [0] * len(b.m.memcgs)
        release(b, pfns)


def test_limit_reached() -> None:
    with iobench() as b:
        assert b.call("set_memcg_limit", 1, MEMCG_MAX, 2) == 0
        pfns = charged(b, 3, 1)
        assert pfns[2] == ENOMEM
        group = b.m.memcgs[0]
        # the first try, one after draining stocks, 16 retries, and no task to kill
        assert (group.memory, group.memory_failcnt) == (2, 18)
        other = charged(b, 1, 2)
        release(b, pfns[:2])
        pfns = charged(b, 1, 1)
        release(b, pfns + other)


def test_atomic_and_memalloc_go_beyond() -> None:
    with iobench() as b:
        b.call("set_memcg_limit", 1, MEMCG_MAX, 1)
        pfns = charged(b, 1, 1)
        bare = [b.alloc(0, GFP_HIGHUSER_MOVABLE) for _ in range(3)]
        assert b.call("mem_cgroup_charge", bare[0], 1, GFP_ATOMIC) == 0
        assert b.call("mem_cgroup_charge", bare[1], 1, GFP_HIGHUSER_MOVABLE | __GFP_NOFAIL) == 0
        b.task().process_flags |= PF_MEMALLOC
        assert b.call("mem_cgroup_charge", bare[2], 1, GFP_HIGHUSER_MOVABLE) == 0
        b.task().process_flags &= ~PF_MEMALLOC
        assert b.m.memcgs[0].memory == 4
        release(b, pfns + bare)
        assert b.m.memcgs[0].memory == 0


def test_a_request_that_may_not_wait_fails_at_once() -> None:
    with iobench() as b:
        b.call("set_memcg_limit", 1, MEMCG_MAX, 1)
        pfns = charged(b, 1, 1)
        bare = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        assert b.call("mem_cgroup_charge", bare, 1, 0) == ENOMEM
        assert b.m.memcgs[0].memory_failcnt == 1
        b.free(bare)
        release(b, pfns)


def test_what_is_over_high_is_remembered_and_costs_time() -> None:
    with iobench() as b:
        b.call("set_memcg_limit", 1, MEMCG_HIGH, 4)
        pfns = charged(b, 4, 1)
        assert b.task().memcg_nr_pages_over_high == 0
        pfns += charged(b, 2, 1)
        assert b.task().memcg_nr_pages_over_high == 2
        # overage 2/4 in 2^20ths squared, times HZ, down by 2^34, for a batch of 32 pages
        penalty = ((2 << 20) // 4) ** 2 * 250 >> 34
        delay = io_delay(b, 32)
        assert (delay, io_delay(b, 16)) == (penalty, penalty // 2)
        b.task().memcg_nr_pages_over_high = 0
        release(b, pfns)


def io_delay(b: IoBench, nr_pages: int) -> int:
    from tests.mm.iobench import io

    return int(io["calculate_high_delay"](b.m.memcgs[0], nr_pages))


def test_what_set_memcg_limit_refuses() -> None:
    with iobench() as b:
        assert b.call("set_memcg_limit", 0, MEMCG_MAX, 1) == EINVAL
        assert b.call("set_memcg_limit", 9, MEMCG_MAX, 1) == EINVAL
        assert b.call("set_memcg_limit", 1, MEMCG_MAX, -1) == EINVAL
        assert b.call("set_memcg_limit", 1, 7, 1) == EINVAL
        b.m.memcgs[0].kmem = 10
        assert b.call("set_memcg_limit", 1, MEMCG_KMEM, 9) == EBUSY
        assert b.m.memcgs[0].limit == 0
        assert b.call("set_memcg_limit", 1, MEMCG_KMEM, 10) == 0
        assert b.m.memcgs[0].limit == 10
        b.m.memcgs[0].kmem = 0


def test_a_limit_below_use_holds_though_nothing_can_be_reclaimed() -> None:
    with iobench() as b:
        pfns = charged(b, 4, 1)
        assert b.call("set_memcg_limit", 1, MEMCG_MAX, 2) == 0
        assert (b.m.memcgs[0].memory_max, b.m.memcgs[0].memory) == (2, 4)
        assert charged(b, 1, 1) == [ENOMEM]
        release(b, pfns)
