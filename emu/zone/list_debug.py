"""Are the neighbours of a list entry what they must be? (``lib/list_debug.c``, CONFIG_DEBUG_LIST (5.10))

Checked mode asks at every ``list_add()`` and ``list_del()``. A corrupt list is no place to go on from: what was found
is left in the machine (``Vm.list_bug``) and the process ends, as ``BUG()`` ends a task.
"""

from emu.zone.mm_types import ListBug, vm_at
from emu.zone.mmzone import Machine
from emu.zone.types import ListHead, list_head_at
from shm.atomic import cmpxchg, process_exit
from shm.core import core

EXIT_BUG = 76  # exit status of a process that met BUG()
ADD_NEXT, ADD_PREV, ADD_DOUBLE, DEL_PREV, DEL_NEXT = 1, 2, 3, 4, 5


@core(cold=True)
def list_bug(m: Machine, kind: int, node: int, at: int, expected: int, found: int) -> None:
    """The first one is on record; the process ends."""
    bug = vm_at(m, m.vm).list_bug
    if cmpxchg(bug, "kind", 0, kind) == 0:
        bug.node = node
        bug.at = at
        bug.expected = expected
        bug.found = found
    process_exit(EXIT_BUG)


@core(cold=True)
def __list_add_valid(m: Machine, new: int, before: int, after: int) -> None:
    """``lib/list_debug.c:__list_add_valid() (5.10)``: links of the entry and of what is to be its neighbours."""
    if list_head_at(m, after << 2).prev != before:
        list_bug(m, ADD_NEXT, new, after, before, list_head_at(m, after << 2).prev)
    if list_head_at(m, before << 2).next != after:
        list_bug(m, ADD_PREV, new, before, after, list_head_at(m, before << 2).next)
    if new == before or new == after:
        list_bug(m, ADD_DOUBLE, new, before, before, after)


@core(cold=True)
def __list_del_entry_valid(m: Machine, node: ListHead, link: int) -> None:
    """``lib/list_debug.c:__list_del_entry_valid() (5.10)``. Differs from 5.10: links aren't poisoned."""
    if list_head_at(m, node.prev << 2).next != link:
        list_bug(m, DEL_PREV, link, node.prev, link, list_head_at(m, node.prev << 2).next)
    if list_head_at(m, node.next << 2).prev != link:
        list_bug(m, DEL_NEXT, link, node.next, link, list_head_at(m, node.next << 2).prev)


def list_bug_text(m: Machine, bug: ListBug) -> str:
    """What the kernel would say, with links as they are here: the entry of a page, or the head of a list."""

    def of(link: int) -> str:
        number = link - m.mem_map_link
        if 0 <= number < m.max_pfn * 8 and number % 8 == 0:
            return f"pfn {number // 8:#x}"
        return f"list head {link:#x}"

    node, at, expected, found = (of(link) for link in (bug.node, bug.at, bug.expected, bug.found))
    return {
        ADD_NEXT: f"list_add corruption. next->prev should be prev ({expected}), but was {found}. (next={at}).",
        ADD_PREV: f"list_add corruption. prev->next should be next ({expected}), but was {found}. (prev={at}).",
        ADD_DOUBLE: f"list_add double add: new={node}, prev={expected}, next={found}.",
        DEL_PREV: f"list_del corruption. prev->next should be {expected}, but was {found}",
        DEL_NEXT: f"list_del corruption. next->prev should be {expected}, but was {found}",
    }[bug.kind]
