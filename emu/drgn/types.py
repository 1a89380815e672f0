"""drgn types of all struct declarations.

A struct has the kernel's name where it stands for one of the kernel's, else its own in lower case. Members have the
names of the declaration; where 5.10 calls one otherwise, it has both. Where 5.10 has a type of its own for a member
(``atomic_long_t managed_pages``) that is the member's type, at our offset.

What a struct of 5.10 has and our record hasn't, ``zone_pgdat`` and ``name`` of a zone, lies in the padding at its end,
and what the record keeps as an offset is a pointer: who reads the memory through drgn sees it so (``emu.drgn.memory``).
"""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import drgn

import emu.programs  # noqa: F401  (declares every struct)
from emu.zone.mmzone import FreeArea, Node, NodeStat, Page, Pageset, Zone
from emu.zone.types import AtomicLong, ListHead
from shm.struct import Struct, offset_of

__all__ = ["POINTERS", "POINTER_SIZE", "TypeMaker", "all_structs", "struct_name"]

POINTER_SIZE = 8
NAMES: dict[type[Struct], str] = {
    Node: "pglist_data", Zone: "zone", FreeArea: "free_area", Page: "page", ListHead: "list_head",
    Pageset: "per_cpu_pageset", NodeStat: "per_cpu_nodestat", AtomicLong: "atomic_long",
}  # fmt: skip
"""The kernel's names where ours aren't the same in lower case with underscores."""


@dataclass(frozen=True)
class Kernel:
    """What 5.10 calls a member, and its type there where that isn't ours."""

    name: str
    type: str = ""


ALSO: dict[type[Struct], dict[str, Kernel]] = {
    Zone: {
        "watermark": Kernel("_watermark"), "managed_pages": Kernel("managed_pages", "atomic_long_t"),
        "zone_flags": Kernel("flags"), "numa_stat": Kernel("vm_numa_stat"),
    },
    Page: {
        "page_flags": Kernel("flags"), "refcount": Kernel("_refcount", "atomic_t"),
        "mapcount": Kernel("_mapcount", "atomic_t"),
    },
    Pageset: {"numa_stat_diff": Kernel("vm_numa_stat_diff")},
}  # fmt: skip

POINTERS: dict[type[Struct], dict[str, tuple[int, str]]] = {
    Zone: {
        "zone_pgdat": (offset_of(Zone, "_pad"), "struct pglist_data"),
        "name": (offset_of(Zone, "_pad") + POINTER_SIZE, "char"),
        "pageset": (offset_of(Zone, "pageset"), "struct per_cpu_pageset"),
    },
}  # fmt: skip
"""Members that are pointers for drgn alone: where they lie, and what they point to."""

TYPEDEFS = {"atomic_long_t": "struct atomic_long", "pg_data_t": "struct pglist_data", "phys_addr_t": "unsigned long"}
_SCALARS: dict[Any, tuple[str, int, bool]] = {
    ctypes.c_int8: ("signed char", 1, True), ctypes.c_uint8: ("unsigned char", 1, False),
    ctypes.c_int16: ("short", 2, True), ctypes.c_uint16: ("unsigned short", 2, False),
    ctypes.c_int32: ("int", 4, True), ctypes.c_uint32: ("unsigned int", 4, False),
    ctypes.c_int64: ("long", 8, True), ctypes.c_uint64: ("unsigned long", 8, False),
    ctypes.c_char: ("char", 1, True),
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
        if drgn.TypeKind.STRUCT in kinds and name == "cpumask":
            return self.bits(name, self.prog["nr_cpu_ids"].value_())
        if drgn.TypeKind.TYPEDEF in kinds and name == "atomic_t":
            counter = drgn.TypeMember(self.of(ctypes.c_int32), "counter")
            return self.prog.typedef_type(name, self.prog.struct_type(None, 4, [counter]))
        if drgn.TypeKind.TYPEDEF in kinds and name in TYPEDEFS:
            return self.prog.typedef_type(name, self.prog.type(TYPEDEFS[name]))
        if drgn.TypeKind.INT in kinds:
            for c_name, size, signed in _SCALARS.values():
                if c_name == name:
                    return self.prog.int_type(name, size, signed)
        return None

    def bits(self, tag: str, nr_bits: int) -> drgn.Type:
        """``struct cpumask`` and its like: a bitmap."""
        words = self.prog.array_type(self.of(ctypes.c_uint64), -(-nr_bits // 64))
        return self.prog.struct_type(tag, drgn.sizeof(words), [drgn.TypeMember(words, "bits")])

    def pointer(self, to: str) -> drgn.Type:
        """A pointer to what is declared as ``to``."""
        return self.prog.pointer_type(self.prog.type(to))

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
        also, pointers = ALSO.get(kind, {}), POINTERS.get(kind, {})
        for name, ctype, *_ in kind._fields_:
            bit = 8 * getattr(kind, name).offset
            kernel = also.get(name, Kernel(""))
            if name not in pointers and name != kernel.name:
                yield drgn.TypeMember(self.of(ctype), name, bit)
            if kernel.name:
                made = self.prog.type(kernel.type) if kernel.type else self.of(ctype)
                yield drgn.TypeMember(made, kernel.name, bit)
        for name, (offset, to) in pointers.items():
            yield drgn.TypeMember(partial(self.pointer, to), name, 8 * offset)  # later: it may point to its owner
