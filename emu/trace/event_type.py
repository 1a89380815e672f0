"""A type of trace event: its fields, where they come from, how it prints. The declarations are made of these parts.

A record of the machine's ring packs its values by kind (``emu.zone.event``); a field's *source* unpacks them from whole
columns of records at once. An event's text is made of the same arguments as its ``print fmt:``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu.trace.facts import NOTHING_KNOWN, Facts
from emu.zone.gfp_names import GFP_TABLE, flag_names
from emu.zone.mmzone import MAX_NR_ZONES, ZONE_NAMES

__all__ = [
    "STRUCT_PAGE_SHIFT", "VMEMMAP_START", "Arg", "Column", "EventType", "Field", "Rows", "Source", "bits", "boolean",
    "char_array", "col", "event", "flags", "format_text", "gfp", "integer", "nid_of", "page", "plain", "rec",
    "show_gfp", "string", "symbol", "task_comm", "task_pid", "ulong", "unsigned", "zid_of", "zone", "zone_type",
]  # fmt: skip

VMEMMAP_START = 0xFFFFEA0000000000
"""Where x86-64 without KASLR has the struct page of pfn 0; they follow each other at 64 bytes. Events print these."""
STRUCT_PAGE_SHIFT = 6
FIRST_ID = 256  # of the numbers that a kernel gives its events in the order of their registration
_COMMON = (("unsigned short", "common_type", 2, 0), ("unsigned char", "common_flags", 1, 0),
           ("unsigned char", "common_preempt_count", 1, 0), ("int", "common_pid", 4, 1))  # fmt: skip
_CONVERSION = re.compile(r"%(-?\d*)(?:hh?|ll?)?([a-zA-Z])(S?)")

Rows = NDArray[np.void]
Column = NDArray[Any]
Source = Callable[[Rows, Facts], Column]


@dataclass(frozen=True)
class Field:
    """A line of events/<system>/<name>/format. ``size`` in bytes."""

    name: str
    ctype: str
    size: int
    signed: bool

    @property
    def dtype(self) -> str:
        """numpy's name for what a column of it holds."""
        if self.is_string:
            return "S"
        return f"S{self.size}" if "[" in self.ctype else f"{'i' if self.signed else 'u'}{self.size}"

    @property
    def is_string(self) -> bool:
        """Whether it tells where in the record a string lies, instead of holding it."""
        return self.ctype.startswith("__data_loc ")


@dataclass(frozen=True)
class Arg:
    """An argument of ``TP_printk()``. ``c``: in C, with {} for the field; ``show``: the same in Python."""

    field: str
    c: str = "{}"
    show: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class EventType:
    """``TRACE_EVENT()``. ``id``: as common_type holds it; ``print_fmt``: what the kernel's ``print fmt:`` says."""

    system: str
    name: str
    id: int
    fields: tuple[Field, ...]
    print_fmt: str
    sources: tuple[Source, ...] = ()
    args: tuple[Arg, ...] = ()

    def columns(self, events: Rows, facts: Facts = NOTHING_KNOWN) -> list[Column]:
        """What the fields of many records hold, a column each."""
        return [
            np.asarray(source(events, facts)).astype(field.dtype)
            for field, source in zip(self.fields, self.sources, strict=True)
        ]

    def values(self, event: Any, facts: Facts = NOTHING_KNOWN) -> tuple[int | bytes, ...]:
        """What the fields of one record hold."""
        rows = np.array([event], event.dtype)  # an array of one
        return tuple(column[0].item() for column in self.columns(rows, facts))

    def texts(self, events: Rows, facts: Facts = NOTHING_KNOWN) -> list[str]:
        """The texts of many records."""
        by_name = dict(zip((field.name for field in self.fields), self.columns(events, facts), strict=True))
        shown = [[arg.show(value) for value in by_name[arg.field].tolist()] for arg in self.args]
        form = python_format(self.print_fmt)
        return [form % row for row in zip(*shown, strict=True)]

    def text(self, event: Any, facts: Facts = NOTHING_KNOWN) -> str:
        """One record's text, as 5.10 prints it behind the event's name."""
        rows = np.array([event], event.dtype)
        return self.texts(rows, facts)[0]


def event(
    kind: int, system: str, name: str, fields: Sequence[tuple[Field, Source]], form: str, *args: Arg | str
) -> EventType:
    """Declare a type. ``form`` is printf's; ``args`` are all fields in their order unless given."""
    own = tuple(field for field, _ in fields)
    shown = tuple(Arg(arg) if isinstance(arg, str) else arg for arg in args) or tuple(Arg(f.name) for f in own)
    in_c = [_in_c(arg, next(f for f in own if f.name == arg.field)) for arg in shown]
    return EventType(
        system, name, FIRST_ID + kind, own, ", ".join([f'"{form}"', *in_c]), tuple(s for _, s in fields), shown
    )


def _in_c(arg: Arg, field: Field) -> str:
    return arg.c.replace("{}", f"__get_str({field.name})" if field.is_string else f"REC->{field.name}")


def python_format(print_fmt: str) -> str:
    """The format in a ``print fmt:``, for Python's ``%``: pointers have all their digits, as ``%p`` writes them."""
    form = print_fmt[1 : print_fmt.index('"', 1)]
    return _CONVERSION.sub(_python_conversion, form)


def _python_conversion(found: re.Match[str]) -> str:
    width, letter, symbol_ = found.groups()
    if letter == "p":
        return f"%{width}s" if symbol_ else "%016x"
    return f"%{width}{letter}"


def format_text(type_: EventType) -> str:
    """The file events/<system>/<name>/format."""
    lines = [f"name: {type_.name}", f"ID: {type_.id}", "format:"]
    at = 0
    for ctype, name, size, signed in _COMMON:
        lines.append(f"\tfield:{ctype} {name};\toffset:{at};\tsize:{size};\tsigned:{signed};")
        at += size
    lines.append("")
    for field in type_.fields:
        length = re.search(r"\[\d+\]$", field.ctype)
        at = -(-at // (1 if length else field.size)) * (1 if length else field.size)
        ctype = field.ctype[: length.start()] if length else field.ctype
        declared = f"{ctype}{'' if ctype.endswith('*') else ' '}{field.name}{length[0] if length else ''}"
        lines.append(f"\tfield:{declared};\toffset:{at};\tsize:{field.size};\tsigned:{int(field.signed)};")
        at += field.size
    return "\n".join([*lines, "", f"print fmt: {type_.print_fmt}", ""])


# --- sources ----------------------------------------------------------------------------------------------------------


def col(name: str) -> Source:
    """A column as it is."""
    return lambda rows, _: rows[name]


def bits(name: str, low: int, count: int = 64) -> Source:
    """Bits of a column, from ``low`` on; without a count, its sign as well."""
    mask = -1 if count == 64 else (1 << count) - 1
    return lambda rows, _: rows[name].astype(np.int64) >> low & mask


def nid_of(zone_id: Source) -> Source:
    """The node of a zone."""
    return lambda rows, facts: zone_id(rows, facts) // MAX_NR_ZONES


def zid_of(zone_id: Source) -> Source:
    """``zone_idx()``"""
    return lambda rows, facts: zone_id(rows, facts) % MAX_NR_ZONES


def task_pid(number: Source) -> Source:
    """The pid of a task that is given by its number."""
    return lambda rows, facts: facts.pids(number(rows, facts))


def task_comm(number: Source) -> Source:
    """Its name."""
    return lambda rows, facts: facts.comms(number(rows, facts))


# --- fields -----------------------------------------------------------------------------------------------------------


def integer(name: str, source: Source, ctype: str = "int", size: int = 4) -> tuple[Field, Source]:
    """``__field(int, name)``"""
    return Field(name, ctype, size, True), source


def unsigned(name: str, source: Source, ctype: str = "unsigned int", size: int = 4) -> tuple[Field, Source]:
    """``__field(unsigned int, name)``"""
    return Field(name, ctype, size, False), source


def ulong(name: str, source: Source) -> tuple[Field, Source]:
    """``__field(unsigned long, name)``"""
    return unsigned(name, source, "unsigned long", 8)


def boolean(name: str, source: Source) -> tuple[Field, Source]:
    """``__field(bool, name)``"""
    return unsigned(name, source, "bool", 1)


def gfp(name: str = "gfp_flags") -> tuple[Field, Source]:
    """``__field(gfp_t, gfp_flags)``"""
    return unsigned(name, col("gfp"), "gfp_t")


def zone_type(name: str, source: Source) -> tuple[Field, Source]:
    """``__field(enum zone_type, name)``"""
    return unsigned(name, source, "enum zone_type")


def char_array(name: str, size: int, source: Source) -> tuple[Field, Source]:
    """``__array(char, name, size)``"""
    return Field(name, f"char[{size}]", size, True), source


def string(name: str, source: Source) -> tuple[Field, Source]:
    """``__string(name, ...)``"""
    return Field(name, "__data_loc char[]", 4, True), source


# --- arguments --------------------------------------------------------------------------------------------------------


def plain(name: str) -> Arg:
    """A string."""
    return Arg(name, show=lambda value: value.decode("latin-1"))


def rec(name: str, c: str, show: Callable[[Any], Any]) -> Arg:
    """An expression over one field."""
    return Arg(name, c, show)


def page(name: str = "pfn") -> Arg:
    """``pfn_to_page()``, in C as libtraceevent evaluates it right: the shift first."""
    return Arg(
        name, f"(void *)(({{}} << {STRUCT_PAGE_SHIFT}) + {VMEMMAP_START:#x}UL)",
        lambda pfn: (VMEMMAP_START + (pfn << STRUCT_PAGE_SHIFT)) & 0xFFFFFFFFFFFFFFFF,
    )  # fmt: skip


def flags(name: str, table: Sequence[tuple[str, int]], nothing: str) -> Arg:
    """``__print_flags()``; ``nothing``: what 0 prints."""
    pairs = tuple(table)
    each = ", ".join(f'{{ {mask:#x}UL, "{word}" }}' for word, mask in pairs)
    return Arg(
        name,
        f'({{}}) ? __print_flags({{}}, "|", {each}) : "{nothing}"',
        lambda value: flag_names(value, pairs) or nothing,
    )


def show_gfp(name: str = "gfp_flags") -> Arg:
    """``show_gfp_flags()``"""
    return flags(name, GFP_TABLE, "none")


def symbol(name: str, words: dict[int, str]) -> Arg:
    """``__print_symbolic()``"""
    each = ", ".join(f'{{ {value}, "{word}" }}' for value, word in words.items())
    return Arg(name, f"__print_symbolic({{}}, {each})", lambda value: words.get(value, f"{value:#x}"))


def zone(name: str) -> Arg:
    """``__print_symbolic(name, ZONE_TYPE)``"""
    return symbol(name, dict(enumerate(ZONE_NAMES)))
