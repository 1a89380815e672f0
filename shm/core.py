"""``@core``: the model is ordinary Python that also compiles.

A core function takes records and integers and returns an integer or nothing. Its annotations are its C signature::

    @core
    def list_empty(head: ListHead) -> bool: ...

    @entry                       # a core function that Python may call
    def alloc_pages(m: Machine, cpu: Cpu, gfp: int, order: int) -> int: ...

Every core function is compiled on its own against the declared signatures of those it calls, so the front end never
walks a call tree; all of a program is then linked into one LLVM module and optimised once (see ``compiler``).

``EMU_MODE`` chooses how a process runs them, once, at import:

``compiled``     native code, nothing checked
``checked``      native code with bounds checks and every ``if CHECKED`` in the model
``interpreted``  the same source as plain Python: pdb, coverage, teaching (``CHECKED`` holds here too)
``instrumented`` native code whose every access to shared memory is seen by a scheduled run (``shm.access``)
"""

import os
import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_type_hints, overload

from shm.struct import Struct

__all__ = [
    "CHECKED", "INSTRUMENTED", "INTERPRETED", "MODE", "CoreError", "CoreInfo", "Entry", "OnStack", "Primitive", "Seam",
    "as_entries", "core", "entry", "implements", "primitive", "seam",
]  # fmt: skip

MODES = ("compiled", "checked", "interpreted", "instrumented")
MODE = os.environ.get("EMU_MODE", "compiled")
if MODE not in MODES:
    sys.stderr.write(f"EMU_MODE={MODE}: not one of {', '.join(MODES)}\n")
    raise SystemExit(2)
CHECKED = MODE in ("checked", "interpreted")
INTERPRETED = MODE == "interpreted"
INSTRUMENTED = MODE == "instrumented"

S = TypeVar("S", bound=Struct)
F = TypeVar("F", bound=Callable[..., Any])


class CoreError(Exception):
    """The core can't be compiled or loaded: what, and in which function."""


def name_of(fn: Callable[..., Any]) -> str:
    """Module and name, for messages."""
    return f"{fn.__module__}.{fn.__qualname__}"


class Signature:
    """Parameter types (``int`` or a Struct class) and whether a value is returned."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        name = name_of(fn)
        try:
            hints = get_type_hints(fn)
        except Exception as err:
            raise CoreError(f"{name}: {err}") from err
        returned = hints.pop("return", None)
        self.returns = returned in (int, bool)
        self.params: tuple[type, ...] = tuple(int if t in (int, bool) else t for t in hints.values())
        for kind in self.params:
            if kind is not int and not (isinstance(kind, type) and issubclass(kind, Struct)):
                raise CoreError(f"{name}: a core parameter is an int or a Struct, not {kind}")
        if len(self.params) != fn.__code__.co_argcount:
            raise CoreError(f"{name}: a core parameter has no annotation")
        if returned not in (int, bool, type(None)):
            raise CoreError(f"{name}: a core function returns int, bool or None")

    def __repr__(self) -> str:
        return f"{[t.__name__ for t in self.params]}->{'int' if self.returns else 'None'}"


class CoreInfo:
    """What the compiler knows of a core function; ``signature`` is resolved when first asked for."""

    def __init__(self, fn: Callable[..., Any], inline: bool, cold: bool) -> None:
        self.body, self.inline, self.cold = fn, inline, cold
        self.symbol = name_of(fn).replace(".", "_")
        self._signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        if self._signature is None:
            self._signature = Signature(self.body)
        return self._signature


@overload
def core(fn: F) -> F: ...
@overload
def core(*, inline: bool = False, cold: bool = False) -> Callable[[F], F]: ...
def core(fn: F | None = None, *, inline: bool = False, cold: bool = False) -> F | Callable[[F], F]:
    """Mark a function of the core. ``inline`` always inlines it; ``cold`` never does (reports, slow paths)."""

    def mark(fn: F) -> F:
        fn.__core__ = CoreInfo(fn, inline, cold)  # type: ignore[attr-defined]
        return fn

    return mark if fn is None else mark(fn)


class Seam:
    """A core function whose body a higher room replaces, where the kernel's own call graph runs back up.

    The declared body is what happens when nobody does (it is a documented default, not a stub)::

        @seam
        def do_IRQ(m: Machine, cpu: Cpu) -> None: ...      # in the lower room

        @implements(do_IRQ)
        def handle(m: Machine, cpu: Cpu) -> None: ...      # in the higher one
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.__core__ = CoreInfo(fn, inline=False, cold=True)
        self.declared = fn
        self.__name__, self.__doc__ = fn.__name__, fn.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.__core__.body(*args)


def seam(fn: F) -> F:
    """Declare a :class:`Seam`."""
    return Seam(fn)  # type: ignore[return-value]


def implements(of: Callable[..., Any]) -> Callable[[F], F]:
    """Give a seam its body."""

    def bind(fn: F) -> F:
        info: CoreInfo = of.__core__  # type: ignore[attr-defined]
        if repr(Signature(fn)) != repr(info.signature):
            raise CoreError(f"{name_of(fn)}: its signature is not that of the seam {info.symbol}")
        info.body = fn
        return fn

    return bind


class Entry:
    """A core function that Python calls. Compiled, ``bind`` has put a native function pointer behind it."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = core(fn)
        self.__core__: CoreInfo = fn.__core__  # type: ignore[attr-defined]
        self.__name__, self.__doc__ = fn.__name__, fn.__doc__
        self.native: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self.native is not None:
            return self.native(*args)
        if INTERPRETED:
            return self.fn(*args)
        raise CoreError(f"{name_of(self.fn)}: call loader.load() first")


def entry(fn: F) -> F:
    """Mark a core function that Python may call."""
    return Entry(fn)  # type: ignore[return-value]


def as_entries(*functions: Any) -> tuple[Entry, ...]:
    """Functions decorated with :func:`entry` as what they are to the loader (to a type checker they are functions)."""
    return functions


class Primitive:
    """An operation that Python can't write, such as an atomic: plain Python semantics and an LLVM lowering.

    ``lower(builder, *operands)`` gets integers as i64 values, records as ``shm.compiler.Operand`` and the arguments
    listed in ``literal`` as Python strings; it returns an i64 value, or None.
    """

    def __init__(
        self, fn: Callable[..., Any], lower: Callable[..., Any], literal: tuple[int, ...], void: bool,
        calls: tuple[Callable[..., Any], ...],
    ) -> None:  # fmt: skip
        self.fn, self.lower, self.literal, self.void, self.calls = fn, lower, literal, void, calls
        self.__name__, self.__doc__ = fn.__name__, fn.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)


def primitive(
    lower: Callable[..., Any], literal: tuple[int, ...] = (), void: bool = False,
    calls: tuple[Callable[..., Any], ...] = (),
) -> Callable[[F], F]:  # fmt: skip
    """Declare a :class:`Primitive`; the decorated function is what it means in interpreted mode. ``calls``: the core
    functions whose symbols the lowering uses."""

    def make(fn: F) -> F:
        return Primitive(fn, lower, literal, void, calls)  # type: ignore[return-value]

    return make


class OnStack(Generic[S]):
    """``ac = on_stack(AllocContext)()`` is a zeroed struct on the C stack of the calling core function."""

    def __init__(self, cls: type[S]) -> None:
        self.cls = cls

    def __call__(self) -> S:
        return self.cls()
