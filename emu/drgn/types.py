"""drgn types of all struct declarations.

A struct has the kernel's name where it stands for one of the kernel's, else its own in lower case. Members have the
names of the declaration; where 5.10 calls one otherwise, it has both.
"""

import ctypes
import re
from collections.abc import Iterator
from typing import Any

import drgn

import emu.programs  # noqa: F401  (declares every struct)
from emu.zone.mmzone import AtomicLong, FreeArea, ListHead, Node, Page, Pageset, Zone
from shm.struct import Struct

__all__ = ["TypeMaker", "all_structs", "struct_name"]

NAMES: dict[type[Struct], str] = {
    Node: "pglist_data", Zone: "zone", FreeArea: "free_area", Page: "page", ListHead: "list_head",
    Pageset: "per_cpu_pageset", AtomicLong: "atomic_long",
}  # fmt: skip
"""The kernel's names where ours aren't the same in lower case with underscores."""

ALSO: dict[type[Struct], dict[str, str]] = {
    Zone: {"watermark": "_watermark"},
    Page: {"page_flags": "flags", "refcount": "_refcount", "mapcount": "_mapcount"},
    Pageset: {"numa_stat_diff": "vm_numa_stat_diff"},
}
"""Member of a declaration -> what 5.10 calls it."""

TYPEDEFS = {"atomic_long_t": AtomicLong, "pg_data_t": Node}
_SCALARS: dict[Any, tuple[str, int, bool]] = {
    ctypes.c_int8: ("signed char", 1, True), ctypes.c_uint8: ("unsigned char", 1, False),
    ctypes.c_int16: ("short", 2, True), ctypes.c_uint16: ("unsigned short", 2, False),
    ctypes.c_int32: ("int", 4, True), ctypes.c_uint32: ("unsigned int", 4, False),
    ctypes.c_int64: ("long", 8, True), ctypes.c_uint64: ("unsigned long", 8, False),
}  # fmt: skip


def all_structs(of: type[Struct] = Struct) -> Iterator[type[Struct]]:
    """Every struct that the emulator declares."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith(("emu.", "shm.")):
            yield kind
        yield from all_structs(kind)


def struct_name(kind: type[Struct]) -> str:
    """The tag: ``struct zone``."""
    return NAMES.get(kind) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__.lstrip("_")).lower()


class TypeMaker:
    """Makes each type once."""

    def __init__(self, prog: drgn.Program) -> None:
        self.prog = prog
        self.kinds = {struct_name(kind): kind for kind in all_structs()}
        self._made: dict[Any, drgn.Type] = {}

    def find(self, kinds: drgn.TypeKindSet, name: str) -> drgn.Type | None:
        """A struct by its tag, a typedef or a C type by name."""
        if drgn.TypeKind.STRUCT in kinds and name in self.kinds:
            return self.of(self.kinds[name])
        if drgn.TypeKind.TYPEDEF in kinds and name in TYPEDEFS:
            return self.prog.typedef_type(name, self.of(TYPEDEFS[name]))
        if drgn.TypeKind.INT in kinds:
            for c_name, size, signed in _SCALARS.values():
                if c_name == name:
                    return self.prog.int_type(name, size, signed)
        return None

    def of(self, ctype: Any) -> drgn.Type:
        """Of a ctypes type: a struct, an array, a scalar."""
        if ctype not in self._made:
            self._made[ctype] = self._make(ctype)
        return self._made[ctype]

    def _make(self, ctype: Any) -> drgn.Type:
        if ctype in _SCALARS:
            return self.prog.int_type(*_SCALARS[ctype])
        if issubclass(ctype, ctypes.Array):
            return self.prog.array_type(self.of(ctype._type_), ctype._length_)
        assert issubclass(ctype, Struct), ctype
        return self.prog.struct_type(struct_name(ctype), ctypes.sizeof(ctype), list(self._members(ctype)))

    def _members(self, kind: type[Struct]) -> Iterator[drgn.TypeMember]:
        for name, ctype, *_ in kind._fields_:
            offset = getattr(kind, name).offset
            for also in (name, ALSO.get(kind, {}).get(name)):
                if also:
                    yield drgn.TypeMember(self.of(ctype), also, 8 * offset)
