"""C structs as Python classes.

A struct is declared once and read in three ways: as a ``ctypes`` record over shared memory (interpreted mode and
tools), as a numba record (compiled mode), and as a numpy dtype (whole-array work such as validation)::

    @struct
    class FreeArea(Struct):
        free_list: Array[ListHead] = array(ListHead, 6)
        nr_free: int = i64()

Records are always views of memory that somebody else owns; nothing here allocates. Positions inside a segment are
byte offsets, so that every process may map it at another address.
"""

import ctypes
import functools
import inspect
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar, cast, overload

import numpy as np

__all__ = [
    "Array", "At", "Struct", "address_of", "array", "dtype_of", "embed", "fixed", "i8", "i16", "i32", "i64",
    "layout_of", "offset_of", "record_at", "records_at", "size_of", "struct", "u8", "u16", "u32",
]  # fmt: skip

T = TypeVar("T")
S = TypeVar("S", bound="Struct")


class Array(Protocol[T]):
    """A fixed-size array inside a struct. An index counts from 0; compiled code doesn't know negative ones."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "list[T]": ...
    def __setitem__(self, index: int, value: Any) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...


class Struct(ctypes.Structure):
    """Base of every struct declared with :func:`struct`."""

    _fixed_: frozenset[str] = frozenset()
    _raw_: bool = False  # instrumented mode doesn't see accesses to it (shm.access)


class _Field:
    def __init__(self, ctype: Any, fixed: bool = False) -> None:
        self.ctype, self.fixed = ctype, fixed


def i8() -> int:
    """``s8``"""
    return cast(int, _Field(ctypes.c_int8))


def u8() -> int:
    """``u8``"""
    return cast(int, _Field(ctypes.c_uint8))


def i16() -> int:
    """``s16``"""
    return cast(int, _Field(ctypes.c_int16))


def u16() -> int:
    """``u16``"""
    return cast(int, _Field(ctypes.c_uint16))


def i32() -> int:
    """``s32``"""
    return cast(int, _Field(ctypes.c_int32))


def u32() -> int:
    """``u32``"""
    return cast(int, _Field(ctypes.c_uint32))


def i64() -> int:
    """``s64``, also for counters and pfns that C keeps unsigned: numba turns ``u64 + int`` into a float."""
    return cast(int, _Field(ctypes.c_int64))


def fixed(of: Any) -> int:
    """A scalar, given by its maker such as :func:`i64`, that Python fills in before the core runs and the core never
    writes: compiled code may read it early, and once."""
    return cast(int, _Field(of().ctype, fixed=True))


def embed(of: type[S]) -> S:
    """A struct inside a struct."""
    return cast(S, _Field(of))


def array(of: Any, length: int) -> Any:
    """Array of ``length`` elements of a struct or of a scalar maker such as :func:`i64`."""
    element: Any = of if isinstance(of, type) else of().ctype
    return _Field(element * length)


def struct(cls: type[S]) -> type[S]:
    """Lay out a class with C alignment rules. ``_align_`` pads the size to a multiple (64 for per-CPU data)."""
    declared: dict[str, _Field] = {name: cls.__dict__[name] for name in inspect.get_annotations(cls)}
    fields: list[tuple[str, Any]] = [(name, field.ctype) for name, field in declared.items()]
    unit = cls.__dict__.get("_align_", 0)
    if unit:
        probe = type("_probe", (ctypes.Structure,), {"_fields_": fields})
        pad = -ctypes.sizeof(probe) % unit
        if pad:
            fields.append(("_pad", ctypes.c_uint8 * pad))
    cls._fields_ = fields
    cls._fixed_ = frozenset(name for name, field in declared.items() if field.fixed)
    return cls


def size_of(cls: type[Struct]) -> int:
    """``sizeof(struct)`` in bytes."""
    return ctypes.sizeof(cls)


def offset_of(cls: type[Struct], field: str) -> int:
    """``offsetof(struct, field)`` in bytes."""
    return int(getattr(cls, field).offset)


def address_of(record: Any) -> int:
    """Where the record lies in this process."""
    return ctypes.addressof(record)


def record_at(cls: type[S], address: int) -> S:
    """The record at an address of this process. The caller keeps the mapping alive."""
    return cls.from_address(address)


def records_at(cls: type[Struct], address: int, count: int) -> np.ndarray[Any, Any]:
    """``count`` records at an address of this process as a numpy array that shares their memory."""
    raw: Any = (ctypes.c_uint8 * (count * ctypes.sizeof(cls))).from_address(address)
    return np.frombuffer(raw, dtype=dtype_of(cls))


def _dtype(ctype: Any) -> np.dtype[Any]:
    if issubclass(ctype, ctypes.Array):
        return np.dtype((_dtype(ctype._type_), (ctype._length_,)))
    if issubclass(ctype, ctypes.Structure):
        fields = cast(Any, ctype)._fields_
        return np.dtype(
            {
                "names": [name for name, _ in fields],
                "formats": [_dtype(of) for _, of in fields],
                "offsets": [getattr(ctype, name).offset for name, _ in fields],
                "itemsize": ctypes.sizeof(ctype),
                "aligned": True,
            }
        )
    return cast("np.dtype[Any]", np.dtype(ctype))


def dtype_of(cls: type[Struct]) -> np.dtype[Any]:
    """The numpy dtype with the same names, offsets and size."""
    return _dtype(cls)


@functools.cache
def layout_of(cls: type[Struct]) -> str:
    """One line that changes whenever the layout does: it is part of cache keys and of a segment's header."""
    parts = []
    for name, ctype in cast(Any, cls)._fields_:
        kind, count = ctype, ""
        if issubclass(ctype, ctypes.Array):
            kind, count = ctype._type_, f"[{ctype._length_}]"
        inner = f"({layout_of(kind)})" if issubclass(kind, Struct) else kind.__name__
        mark = "!" if name in cls._fixed_ else ""
        parts.append(f"{name}{mark}@{getattr(cls, name).offset}:{inner}{count}")
    return f"{cls.__name__}#{ctypes.sizeof(cls)}{{{' '.join(parts)}}}"


class At(Generic[S]):
    """Accessor for records behind a base record: ``page_at = At(Page)``, then ``page_at(m, offset)``.

    Compiled, it is one addition. Offsets are bytes from the start of the base record.
    """

    def __init__(self, cls: type[S]) -> None:
        self.cls = cls

    def __call__(self, base: Any, offset: int) -> S:
        return self.cls.from_address(ctypes.addressof(base) + offset)
