"""A CPU that runs no more is taken down by a living one: nothing of what it had is lost, and nobody waits for it."""

import pytest

from emu.cpu.cpu_hotplug import CPUHP_DEAD, CPUHP_DYING, CPUHP_ONLINE, salvage_page, tell_cpu_dead, vmstat_cpu_online
from emu.cpu.irq import IRQ_NET, IRQ_TIMER, raise_irq
from emu.cpu.workqueue import WORK_CPU_DEAD, WORK_DRAIN
from emu.death import clean_party
from emu.zone.mmzone import WORKS
from emu.zone.validate import validate
from emu.zone.vmstat_items import NR_FREE_PAGES, PGALLOC, PGFREE
from shm.spinlock_types import PENDING
from tests.bench import Bench, bench, core, one_zone, two_nodes


def use(b: Bench, cpu: int, n: int = 3) -> None:
    """Leave pages on a CPU's list, and counts in its differentials."""
    for pfn in [b.alloc(cpu=cpu) for _ in range(n)]:
        b.free(pfn, cpu=cpu)


def die(b: Bench, cpu: int) -> None:
    """What the supervisor does when the process of a CPU has ended."""
    b.cpu(cpu).party.dead = 1
    b.cpu(cpu).online = 0
    b.m.nr_online_cpus -= 1
    b.m.cpu_offlines += 1
    b.cpu(cpu).hotplug = CPUHP_DYING


def take_down(b: Bench, cpu: int, by: int = 0) -> None:
    assert tell_cpu_dead(b.m, b.cpu(cpu), by)
    core.poll(b.m, b.cpu(by))
    assert b.cpu(cpu).hotplug == CPUHP_DEAD


def events(b: Bench, item: int) -> int:
    return sum(b.cpu(i).vm_events[item] for i in range(b.m.nr_parties))


def test_pages_of_a_dead_cpu_are_drained_by_another() -> None:
    with bench(one_zone(cpus=2)) as b:
        use(b, 1)
        assert b.pcp(cpu=1).count > 0
        core.drain_pages(b.m, b.cpu(0), 1)
        assert b.pcp(cpu=1).count == 0
        assert b.nr_free() == 8192


def test_counters_are_folded_into_the_zone() -> None:
    with bench(one_zone(cpus=2)) as b:
        use(b, 1)
        pset, zone = b.pcp(cpu=1), b.zone()
        pset.expire = 2
        total = zone.vm_stat[NR_FREE_PAGES].counter + sum(
            b.pcp(cpu=c).vm_stat_diff[NR_FREE_PAGES] for c in range(b.m.nr_parties)
        )
        assert pset.vm_stat_diff[NR_FREE_PAGES] != 0 and any(pset.numa_stat_diff)
        core.cpu_vm_stats_fold(b.m, b.cpu(1))
        assert not any(pset.vm_stat_diff) and not any(pset.numa_stat_diff)
        assert zone.vm_stat[NR_FREE_PAGES].counter + b.pcp(cpu=0).vm_stat_diff[NR_FREE_PAGES] == total
        assert pset.expire == 2


def test_event_counts_become_those_of_the_cpu_that_folds() -> None:
    with bench(one_zone(cpus=2)) as b:
        use(b, 1)
        before = events(b, PGFREE), events(b, PGALLOC + b.zone().zid)
        assert before[0] == 3
        core.vm_events_fold_cpu(b.cpu(0), b.cpu(1))
        assert (events(b, PGFREE), events(b, PGALLOC + b.zone().zid)) == before
        assert not any(b.cpu(1).vm_events)


def test_takedown_leaves_nothing_of_a_cpu() -> None:
    with bench(two_nodes()) as b:
        use(b, 1)
        raise_irq(b.cpu(1), IRQ_NET)
        core.poll(b.m, b.cpu(1))  # its receive ring has pages now
        assert any(b.cpu(1).rx_ring)
        raise_irq(b.cpu(1), IRQ_NET | IRQ_TIMER)
        die(b, 1)
        take_down(b, 1)
        assert not any(b.cpu(1).rx_ring) and b.cpu(1).irq_pending == 0
        assert b.cpu(0).rx_next > 0  # its card's interrupt came in here
        assert [b.pcp(b.zone(z), 1).count for z in range(3)] == [0, 0, 0]
        assert not any(b.cpu(1).vm_events)
        assert b.cpu(0).critical == 0 and b.cpu(1).party.dead == 1
        assert validate(b.m, from_boot=True) == []  # cpu 0's ring is in use: its pages are accounted for


def test_work_of_a_dead_cpu_is_done_with() -> None:
    with bench(two_nodes()) as b:
        use(b, 1)
        core.queue_work_on(b.m, b.cpu(0), 1, WORK_DRAIN, 0)
        die(b, 1)
        take_down(b, 1)
        assert b.cpu(1).work_tail == b.cpu(1).work_head == 1
        core.flush_work(b.m, b.cpu(0), 1)  # nobody plays CPU 1: this would hang


def test_drain_of_all_asks_no_cpu_that_is_offline() -> None:
    with bench(two_nodes()) as b:
        use(b, 0)
        use(b, 1)
        die(b, 1)
        core.drain_all_pages(b.m, b.cpu(0), 0)  # nobody plays CPU 1: this would hang
        assert b.cpu(1).work_head == 0
        assert b.pcp(b.zone(1), 0).count == 0 and b.pcp(b.zone(2), 1).count > 0


def test_nothing_is_queued_on_a_cpu_that_went_offline_in_between() -> None:
    with bench(one_zone(cpus=2)) as b:
        die(b, 1)
        core.queue_work_on(b.m, b.cpu(0), 1, WORK_DRAIN, 0)
        assert b.cpu(1).work_head == 0


def test_a_dead_cpu_that_was_to_take_another_down_hands_that_on() -> None:
    with bench(one_zone(cpus=3)) as b:
        use(b, 1)
        use(b, 2)
        die(b, 2)
        assert tell_cpu_dead(b.m, b.cpu(2), 1)  # CPU 1 dies before it looks at its queue
        die(b, 1)
        take_down(b, 1)
        assert b.cpu(2).hotplug == CPUHP_DEAD
        assert b.pcp(cpu=1).count == b.pcp(cpu=2).count == 0


def test_the_parent_waits_for_nobody_who_has_the_queue() -> None:
    with bench(one_zone(cpus=2)) as b:
        die(b, 1)
        lock = b.cpu(0).work_lock
        lock.word = 1
        assert not tell_cpu_dead(b.m, b.cpu(1), 0)
        lock.word = 0
        b.cpu(0).work_head = WORKS
        assert not tell_cpu_dead(b.m, b.cpu(1), 0)
        b.cpu(0).work_head = 0
        assert lock.word == 0 and b.cpu(1).party.dead == 1
        assert tell_cpu_dead(b.m, b.cpu(1), 0)
        assert b.cpu(0).works[0].kind == WORK_CPU_DEAD and b.cpu(0).works[0].arg == 1
        core.poll(b.m, b.cpu(0))


@pytest.mark.parametrize(("parked", "word"), [(0, PENDING), (1, 0)])
def test_its_place_in_the_queue_of_a_lock_is_given_up(parked: int, word: int) -> None:
    """It was the head of the queue, awake or asleep, when it was killed."""
    with bench(one_zone(cpus=2)) as b:
        lock, wait = b.zone().lock, b.cpu(1).party.waits[0]
        lock.word, lock.tail, lock.parked = word, 1, parked
        wait.lock = _position(b)
        wait.ticket, wait.parked = 0, parked
        die(b, 1)
        take_down(b, 1)
        assert (lock.word, lock.head - lock.tail, lock.parked) == (0, 0, 0)
        assert (wait.lock, wait.parked) == (0, 0)


def _position(b: Bench) -> int:
    """The zone lock as a Wait names it."""
    from shm.struct import address_of

    return address_of(b.zone().lock) - b.base - int(b.m.cpus)


def test_thresholds_follow_the_number_of_cpus_that_are_online() -> None:
    with bench(one_zone(cpus=4)) as b:
        before = b.pcp(cpu=0).stat_threshold
        die(b, 3)
        take_down(b, 3)
        assert b.pcp(cpu=0).stat_threshold == before * 2 // 3  # fls(4) = 3, fls(3) = 2
        assert b.pcp(cpu=3).stat_threshold == before
        clean_party(b.m, 3)
        vmstat_cpu_online(b.m, b.cpu(3))
        assert (b.m.nr_online_cpus, b.cpu(3).online, b.cpu(3).hotplug) == (4, 1, CPUHP_ONLINE)
        assert b.pcp(cpu=0).stat_threshold == before


def test_a_cpu_comes_back_as_it_was_at_boot() -> None:
    with bench(one_zone(cpus=2)) as b:
        cpu = b.cpu(1)
        cpu.party.lock_site, cpu.party.context, cpu.party.irqs_off, cpu.critical, cpu.asleep = 7, 1, 1, 1, 1
        cpu.command = 5
        die(b, 1)
        take_down(b, 1)
        clean_party(b.m, 1)
        vmstat_cpu_online(b.m, cpu)
        party = cpu.party
        assert (party.dead, party.lock_site, party.context, party.irqs_off, cpu.critical, cpu.asleep) == (0,) * 6
        assert cpu.answered == 5  # what it had been told is not done again
        use(b, 1)


@pytest.mark.parametrize("refcount", [0, 1])
def test_a_page_that_nobody_has_is_given_back(refcount: int) -> None:
    with bench(one_zone(cpus=2)) as b:
        pfn = b.alloc()
        b.page(pfn).refcount = refcount
        salvage_page(b.m, b.cpu(0), pfn)
        assert pfn in b.pcp_list(0)
