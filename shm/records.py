"""Structs as numba sees them: pointers whose fields are read and written in place.

Everything that isn't a record is an ``int64``: a field is widened when it is read, by its sign, and cut off when it is
written, so an expression means the same compiled and interpreted. Why not numba's own records: they type each width
apart (and an unsigned one with a signed one is a float), build an array object for every array inside a struct, wrap
negative indices around, and tell LLVM nothing. Here

- a load or store carries the name of its field (TBAA): writing ``page.refcount`` doesn't make ``zone.node`` unknown;
- an index counts from 0: a negative one is out of bounds (as in C, and checked mode says so);
- a ``fixed`` field is read once (``invariant.load``), also across atomics, and can't be written by the core.
"""
# mypy: disable-error-code="untyped-decorator"

import ctypes
import operator
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin, lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import models, register_model

from shm.core import CHECKED, INSTRUMENTED
from shm.seen import seen_load, seen_store
from shm.struct import Struct

__all__ = ["StructType", "struct_type"]

I64 = ir.IntType(64)
I8P = ir.IntType(8).as_pointer()


class Scalar:
    """An integer in memory: its width, and the name that LLVM knows it by."""

    def __init__(self, ctype: Any, name: str, fixed: bool, raw: bool) -> None:
        self.name, self.fixed = name, fixed
        self.seen = not (fixed or raw)
        self.signed: bool = ctype(-1).value < 0
        self.bits = ctypes.sizeof(ctype) * 8
        self.type = types.int64

    def pointer(self, builder: Any, at: Any) -> Any:
        """``at`` as a pointer to it."""
        return builder.bitcast(at, ir.IntType(self.bits).as_pointer())

    def _name(self, builder: Any, access: Any) -> None:
        module = builder.module
        of = module.add_metadata([self.name, module.add_metadata(["emu"]), I64(0)])
        access.set_metadata("tbaa", module.add_metadata([of, of, I64(0)]))

    def load(self, builder: Any, at: Any) -> Any:
        """Its value as an int64."""
        if INSTRUMENTED and self.seen:
            value = seen_load(builder, self.pointer(builder, at), 0, lambda: builder.load(self.pointer(builder, at)))
        else:
            value = builder.load(self.pointer(builder, at))
            self._name(builder, value)
        if self.fixed:
            value.set_metadata("invariant.load", builder.module.add_metadata([]))
        if self.bits == 64:
            return value
        return builder.sext(value, I64) if self.signed else builder.zext(value, I64)

    def store(self, builder: Any, at: Any, value: Any) -> None:
        """Set it to the low bits of an int64."""
        if self.fixed:
            raise TypeError(f"{self.name} is fixed: the core can't write it")
        narrow = value if self.bits == 64 else builder.trunc(value, ir.IntType(self.bits))
        if INSTRUMENTED and self.seen:
            pointer = self.pointer(builder, at)
            seen_store(builder, pointer, narrow, 0, lambda: builder.store(narrow, pointer))
        else:
            self._name(builder, builder.store(narrow, self.pointer(builder, at)))


class Place:
    """A record or an array inside a record: reading it gives its address."""

    def __init__(self, of: types.Type) -> None:
        self.type = of

    def load(self, builder: Any, at: Any) -> Any:
        """Its address."""
        return at

    def store(self, builder: Any, at: Any, value: Any) -> None:
        """Refused."""
        raise TypeError(f"{self.type} can't be assigned as a whole")


class ArrayType(types.Type):
    """``Array[T]`` in a struct."""

    def __init__(self, element: Scalar | Place, name: str, size: int, length: int) -> None:
        super().__init__(f"{name}[{length}]")
        self.element, self.size, self.length = element, size, length


class StructType(types.Type):
    """A pointer to a struct."""

    def __init__(self, cls: type[Struct]) -> None:
        super().__init__(cls.__name__)
        self.cls, self.size = cls, ctypes.sizeof(cls)
        self.fields: dict[str, tuple[int, Scalar | Place]] = {}

    def element(self, name: str) -> Scalar | Place:
        """What the field is."""
        return self.fields[name][1]


_structs: dict[type[Struct], StructType] = {}


def struct_type(cls: type[Struct]) -> StructType:
    """The numba type of a struct: one object for each, so that types compare equal."""
    if cls not in _structs:
        made = _structs[cls] = StructType(cls)
        for name, ctype in cast(Any, cls)._fields_:
            full = f"{cls.__name__}.{name}"
            made.fields[name] = (getattr(cls, name).offset, _element(ctype, full, name in cls._fixed_, cls._raw_))
    return _structs[cls]


def _element(ctype: Any, name: str, fixed: bool, raw: bool) -> Scalar | Place:
    if issubclass(ctype, ctypes.Array):
        of = _element(ctype._type_, name, fixed, raw)
        return Place(ArrayType(of, name, ctypes.sizeof(ctype._type_), ctype._length_))
    return Place(struct_type(ctype)) if issubclass(ctype, Struct) else Scalar(ctype, name, fixed, raw)


register_model(StructType)(models.OpaqueModel)
register_model(ArrayType)(models.OpaqueModel)


def offset(builder: Any, at: Any, by: Any) -> Any:
    """``at + by`` bytes, in the same segment."""
    return builder.gep(at, [by if isinstance(by, ir.Value) else I64(by)], inbounds=True)


@infer_getattr
class StructAttribute(AttributeTemplate):  # type: ignore[misc]
    """``record.field``"""

    key = StructType

    def generic_resolve(self, of: StructType, name: str) -> types.Type | None:
        """The type of a field."""
        return of.element(name).type if name in of.fields else None


@lower_getattr_generic(StructType)
def _getattr(context: Any, builder: Any, of: StructType, value: Any, name: str) -> Any:
    at, element = of.fields[name]
    return element.load(builder, offset(builder, value, at))


@lower_setattr_generic(StructType)
def _setattr(context: Any, builder: Any, sig: Any, args: Any, name: str) -> None:
    at, element = sig.args[0].fields[name]
    element.store(builder, offset(builder, args[0], at), args[1])


@infer_global(operator.getitem)
class ArrayGetItem(AbstractTemplate):  # type: ignore[misc]
    """``array[index]``"""

    def generic(self, args: Any, kws: Any) -> Any:
        """Its signature."""
        array, index = args
        if isinstance(array, ArrayType) and isinstance(index, types.Integer):
            return signature(array.element.type, array, types.int64)
        return None


@infer_global(operator.setitem)
class ArraySetItem(AbstractTemplate):  # type: ignore[misc]
    """``array[index] = value``"""

    def generic(self, args: Any, kws: Any) -> Any:
        """Its signature."""
        array, index, _ = args
        if isinstance(array, ArrayType) and isinstance(index, types.Integer):
            return signature(types.none, array, types.int64, types.int64)
        return None


def _at(context: Any, builder: Any, array: ArrayType, base: Any, index: Any) -> Any:
    if CHECKED:
        with builder.if_then(builder.icmp_unsigned(">=", index, I64(array.length)), likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("index out of bounds",))
    row = ir.ArrayType(ir.IntType(8), array.size).as_pointer()
    return builder.bitcast(builder.gep(builder.bitcast(base, row), [index], inbounds=True), I8P)


@lower_builtin(operator.getitem, ArrayType, types.int64)
def _getitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = sig.args[0]
    return array.element.load(builder, _at(context, builder, array, *args))


@lower_builtin(operator.setitem, ArrayType, types.int64, types.int64)
def _setitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = sig.args[0]
    array.element.store(builder, _at(context, builder, array, *args[:2]), args[2])
    return context.get_dummy_value()
