"""Looking at many records at once.

``all_match(page, 512, "refcount=0 page_flags&0x30=0x10")`` asks of 512 records that lie one behind the other whether
every one has those values. Compiled, a record is one vector load of the bytes that are asked about.
"""

import ctypes
from typing import Any

from llvmlite import ir

from shm.core import INSTRUMENTED, primitive
from shm.seen import seen_range

__all__ = ["all_match", "matches"]

I32, I64 = ir.IntType(32), ir.IntType(64)


def _terms(spec: str) -> list[tuple[str, int, int]]:
    """``field=value`` and ``field&mask=value``, as field, mask and value."""
    found = []
    for term in spec.split():
        left, _, value = term.partition("=")
        name, _, mask = left.partition("&")
        found.append((name, int(mask or "-1", 0), int(value, 0)))
    return found


def _images(cls: Any, spec: str) -> tuple[bytes, bytes]:
    """Masks and values as bytes of the record."""
    masks, values = cls(), cls()
    for name, mask, value in _terms(spec):
        setattr(masks, name, mask)
        setattr(values, name, mask & value)
    return bytes(masks), bytes(values)


def _span(mask: bytes) -> tuple[int, int]:
    """Where the asked-for bytes begin, and how many 32-bit lanes hold them: as few as a vector register can have."""
    asked = [at for at, byte in enumerate(mask) if byte]
    start = min(asked) & ~3
    lanes = 1 << (max(asked) - start >> 2).bit_length()
    return min(start, len(mask) - 4 * lanes), lanes


def _vector(image: bytes) -> Any:
    lanes = [int.from_bytes(image[at : at + 4], "little") for at in range(0, len(image), 4)]
    return ir.Constant(ir.VectorType(I32, len(lanes)), lanes)


def _scan(b: Any, base: Any, start: Any, count: Any, step: int, seen: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
    """A loop that takes ``step`` records at a time: the index after the last, and all records or-ed and and-ed."""
    before, loop, done = b.block, b.append_basic_block("scan"), b.append_basic_block("scanned")
    b.cbranch(b.icmp_signed("<=", b.add(start, I64(step)), count), loop, done)
    b.position_at_end(loop)
    entering = (start, *seen)
    at, any_bit, all_bits = (b.phi(of.type) for of in entering)
    leaving = [b.add(at, I64(step)), any_bit, all_bits]
    for i in range(step):
        row = b.gep(base, [b.add(at, I64(i))], inbounds=True)
        record = b.load(b.bitcast(row, any_bit.type.as_pointer()), align=4)
        leaving[1], leaving[2] = b.or_(leaving[1], record), b.and_(leaving[2], record)
    for phi, first, last in zip((at, any_bit, all_bits), entering, leaving, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(last, loop)
    b.cbranch(b.icmp_signed("<=", b.add(leaving[0], I64(step)), count), loop, done)
    b.position_at_end(done)
    found = []
    for first, last in zip(entering, leaving, strict=True):
        phi = b.phi(first.type)
        phi.add_incoming(first, before)
        phi.add_incoming(last, loop)
        found.append(phi)
    return found[0], (found[1], found[2])


def _asked(b: Any, rec: Any, spec: str) -> tuple[Any, Any, Any]:
    """Where to look in the first record, the mask and the value."""
    images = _images(rec.of.cls, spec)
    start, lanes = _span(images[0])
    if 4 * lanes > rec.of.size:
        raise TypeError(f"{rec.of}: what is asked of it is not in one register: {spec}")
    mask, value = (_vector(image[start : start + 4 * lanes]) for image in images)
    return b.gep(rec.value, [I64(start)], inbounds=True), mask, value


def _is_zero(b: Any, vector: Any) -> Any:
    bits = ir.IntType(32 * vector.type.count)
    return b.zext(b.icmp_unsigned("==", b.bitcast(vector, bits), bits(0)), I64)


def _lower_matches(b: Any, rec: Any, spec: str) -> Any:
    if INSTRUMENTED:
        seen_range(b, rec.address, I64(rec.of.size))
    at, mask, value = _asked(b, rec, spec)
    record = b.load(b.bitcast(at, mask.type.as_pointer()), align=4)
    return _is_zero(b, b.and_(b.xor(record, value), mask))


def _lower_all_match(b: Any, rec: Any, count: Any, spec: str) -> Any:
    if INSTRUMENTED:
        seen_range(b, rec.address, b.mul(count, I64(rec.of.size)))
    start, mask, value = _asked(b, rec, spec)
    base = b.bitcast(start, ir.ArrayType(ir.IntType(8), rec.of.size).as_pointer())
    seen = (ir.Constant(mask.type, [0] * mask.type.count), ir.Constant(mask.type, [-1] * mask.type.count))
    at, seen = _scan(b, base, I64(0), count, 4, seen)
    at, (any_bit, all_bits) = _scan(b, base, at, count, 1, seen)
    # a bit that should be 0 and was 1 once, or the other way round
    wrong = b.or_(b.and_(any_bit, b.xor(mask, value)), b.and_(b.not_(all_bits), value))
    return _is_zero(b, wrong)


@primitive(_lower_all_match, literal=(2,))
def all_match(rec: Any, count: int, spec: str) -> int:
    """1 if ``rec`` and those behind it, ``count`` in all, have the values of ``spec``, else 0. Fields are
    compared bit by bit; what is asked lies in 32 bytes at most."""
    terms = _terms(spec)
    records = (type(rec) * max(count, 0)).from_address(ctypes.addressof(rec))
    return int(all(getattr(r, name) & mask == mask & value for r in records for name, mask, value in terms))


@primitive(_lower_matches, literal=(1,))
def matches(rec: Any, spec: str) -> int:
    """:func:`all_match` of one record."""
    return all_match(rec, 1, spec)
