"""``struct list_head`` by offset (``include/linux/list.h`` (5.10)).

A list is circular and its head is a ListHead like any other, so adding and removing have no branches.
"""

from emu.zone.list_debug import __list_add_valid, __list_del_entry_valid
from emu.zone.mmzone import Machine
from emu.zone.types import ListHead, list_head_at
from shm.atomic import address
from shm.core import CHECKED, core


@core(inline=True)
def link_of(m: Machine, node: ListHead) -> int:
    """The link that names a node."""
    return (address(node) - address(m)) >> 2


@core(inline=True)
def INIT_LIST_HEAD(m: Machine, head: ListHead) -> None:
    """``INIT_LIST_HEAD()``"""
    here = link_of(m, head)
    head.next = here
    head.prev = here


@core(inline=True)
def list_empty(m: Machine, head: ListHead) -> bool:
    """``list_empty()``"""
    return head.next == link_of(m, head)


@core(inline=True)
def list_add(m: Machine, new: ListHead, head: ListHead) -> None:
    """``list_add()``: right behind the head."""
    here = link_of(m, new)
    after = head.next
    if CHECKED:
        __list_add_valid(m, here, link_of(m, head), after)
    new.next = after
    new.prev = link_of(m, head)
    list_head_at(m, after << 2).prev = here
    head.next = here


@core(inline=True)
def list_add_tail(m: Machine, new: ListHead, head: ListHead) -> None:
    """``list_add_tail()``"""
    here = link_of(m, new)
    before = head.prev
    if CHECKED:
        __list_add_valid(m, here, before, link_of(m, head))
    new.next = link_of(m, head)
    new.prev = before
    list_head_at(m, before << 2).next = here
    head.prev = here


@core(inline=True)
def list_del(m: Machine, node: ListHead) -> None:
    """``list_del()``; the node's own links are left as they are (the kernel poisons them)."""
    after = node.next
    before = node.prev
    if CHECKED:
        __list_del_entry_valid(m, node, link_of(m, node))
    list_head_at(m, after << 2).prev = before
    list_head_at(m, before << 2).next = after


@core(inline=True)
def list_move_tail(m: Machine, node: ListHead, head: ListHead) -> None:
    """``list_move_tail()``"""
    list_del(m, node)
    list_add_tail(m, node, head)


@core(inline=True)
def list_move(m: Machine, node: ListHead, head: ListHead) -> None:
    """``list_move()``"""
    list_del(m, node)
    list_add(m, node, head)


@core(inline=True)
def list_splice(m: Machine, these: ListHead, head: ListHead) -> None:
    """``list_splice()``: all of a list to the front of another; its own head is left stale."""
    if list_empty(m, these):
        return
    first = these.next
    last = these.prev
    after = head.next
    list_head_at(m, first << 2).prev = link_of(m, head)
    head.next = first
    list_head_at(m, last << 2).next = after
    list_head_at(m, after << 2).prev = last
