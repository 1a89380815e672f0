"""``struct list_head`` by offset."""

import random

from emu.zone.types import ListHead
from shm.struct import address_of
from tests.bench import Bench, bench, core


def members(b: Bench, head: ListHead, forward: bool = True) -> list[int]:
    """Offsets on a list, walked one way."""
    out, at = [], head
    while True:
        link = at.next if forward else at.prev
        at = ListHead.from_address(b.base + (link << 2))
        if address_of(at) == address_of(head):
            return out
        out.append(link)


def test_list_behaves_as_a_sequence_in_both_directions() -> None:
    rnd = random.Random(1)
    with bench() as b:
        head, other = b.cpu().bulk, b.cpu().batch
        for h in (head, other):
            h.next = h.prev = (address_of(h) - b.base) >> 2
        nodes = {(address_of(b.page(p).lru) - b.base) >> 2: b.page(p).lru for p in range(1024, 1040)}
        model: list[int] = []
        aside: list[int] = []
        for link, node in nodes.items():
            if rnd.random() < 0.5:
                core.list_add(b.m, node, head)
                model.insert(0, link)
            else:
                core.list_add_tail(b.m, node, head)
                model.append(link)
        for link in rnd.sample(model, 6):
            core.list_move_tail(b.m, nodes[link], other)
            model.remove(link)
            aside.append(link)
        for link in rnd.sample(model, 4):
            core.list_del(b.m, nodes[link])
            model.remove(link)
        assert members(b, head) == model
        assert members(b, head, forward=False) == model[::-1]
        assert members(b, other) == aside
        assert not core.list_empty(b.m, head)
        for link in model:
            core.list_del(b.m, nodes[link])
        assert core.list_empty(b.m, head)
        for pfn in range(1024, 1040):
            b.page(pfn).lru.next = b.page(pfn).lru.prev = 0
        b.strict = False  # the pages' links were the free lists'
