"""Whole pieces of memory: copied, compared. Addresses are of this process."""

import ctypes
from typing import Any

from llvmlite import ir

from shm.core import primitive

__all__ = ["copy_memory", "same_memory"]

I8P, I32, I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _pointers(b: Any, one: Any, two: Any) -> list[Any]:
    return [b.inttoptr(one, I8P), b.inttoptr(two, I8P)]


def _declare(b: Any, name: str, result: Any, args: list[Any]) -> Any:
    return b.module.globals.get(name) or ir.Function(b.module, ir.FunctionType(result, args), name)


def _lower_copy(b: Any, to: Any, of: Any, nr_bytes: Any) -> None:
    b.call(_declare(b, "memcpy", I8P, [I8P, I8P, I64]), [*_pointers(b, to, of), nr_bytes])


def _lower_same(b: Any, one: Any, two: Any, nr_bytes: Any) -> Any:
    out = b.call(_declare(b, "memcmp", I32, [I8P, I8P, I64]), [*_pointers(b, one, two), nr_bytes])
    return b.zext(b.icmp_signed("==", out, I32(0)), I64)


@primitive(_lower_copy, void=True)
def copy_memory(to: int, of: int, nr_bytes: int) -> None:
    """``memcpy()``"""
    ctypes.memmove(to, of, nr_bytes)


@primitive(_lower_same)
def same_memory(one: int, two: int, nr_bytes: int) -> int:
    """``memcmp() == 0``"""
    return int(_libc.memcmp(one, two, nr_bytes) == 0)
