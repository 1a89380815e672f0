"""From core functions to one object file.

1. *Front end* (numba, in parallel processes): each function alone, against the declared signatures of what it calls,
   to unoptimised LLVM bitcode, cached by function.
2. *Link and optimise* (LLVM, once): all functions of the program in one module, everything internal but the entries.

Why not numba's own linking: it re-optimises the whole call tree below every function, which for 200 functions took
minutes. Here the front end costs about 50 ms a function and the optimiser runs once over everything.
"""
# mypy: allow-untyped-calls

import ctypes
import functools
import types as pytypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.typed_passes import NativeLowering, NopythonTypeInference, PreLowerStripPhis
from numba.core.typing import Context
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode
from numba.extending import intrinsic

from shm.core import CoreError, CoreInfo, OnStack, Primitive, name_of
from shm.here import HERE, HereRecord, load_here
from shm.program import globals_of
from shm.records import Scalar, StructType, offset, struct_type
from shm.seen import in_function
from shm.struct import At

__all__ = ["Operand", "front_end", "link"]

I64 = ir.IntType(64)
I8P = ir.IntType(8).as_pointer()


class _Typing(Context):  # type: ignore[misc]
    """Remembers how calls are typed. Most are operators on integers, for which numba asks every rule of numpy's."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[Any, Any] = {}

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        numbers = (types.IntegerLiteral, types.BooleanLiteral)
        plain = tuple(types.unliteral(a) if isinstance(a, numbers) else a for a in args)
        found = self.known.get((func, plain))
        if found is None:
            found = self.known[func, plain] = super().resolve_function_type(func, plain, kws)
        return found


# what numba knows is read here, once, and inherited by the processes that compile
_typing = _Typing()
_target = CPUContext(_typing)
_typing.refresh()
_target.refresh()


class Operand:
    """A record argument of a primitive: its address, and pointers to its fields."""

    def __init__(self, builder: Any, value: Any, of: StructType) -> None:
        self.builder, self.value, self.of = builder, value, of

    @property
    def address(self) -> Any:
        return self.builder.ptrtoint(self.value, I64)

    def field(self, name: str) -> tuple[Any, int, bool]:
        """Pointer to a scalar field, its width in bits and whether it is signed."""
        at, scalar = self.of.fields[name]
        if not isinstance(scalar, Scalar):
            raise TypeError(f"{name} is no integer field")
        return scalar.pointer(self.builder, offset(self.builder, self.value, at)), scalar.bits, scalar.signed


def _as_int(context: Any, builder: Any, value: Any, of: Any) -> Any:
    return value if of == types.int64 else context.cast(builder, value, of, types.int64)


def _void_or_int(returns: bool) -> Any:
    return types.int64 if returns else types.void


@functools.cache
def _primitive(prim: Primitive) -> Any:
    def typed(typingctx: Any, *args: Any) -> Any:
        for at, arg in enumerate(args):
            if at in prim.literal and not isinstance(arg, types.StringLiteral):
                raise TypeError(f"{prim.__name__}: argument {at + 1} must be a literal string")

        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            operands: list[Any] = []
            for of, value in zip(sig.args, values, strict=True):
                if isinstance(of, types.StringLiteral):
                    operands.append(of.literal_value)
                elif isinstance(of, StructType):
                    operands.append(Operand(builder, value, of))
                else:
                    operands.append(_as_int(context, builder, value, of))
            out = prim.lower(builder, *operands)
            return context.get_dummy_value() if prim.void else out

        return _void_or_int(not prim.void)(*args), codegen

    return _intrinsic(prim.__name__, typed, prim.fn.__code__.co_argcount)


def _intrinsic(name: str, typed: Callable[..., Any], arity: int) -> Any:
    # intrinsics are typed by their parameter list, so one is made for each number of parameters
    names = ", ".join(f"a{i}" for i in range(arity))
    scope: dict[str, Any] = {"typed": typed}
    exec(
        f"def stub(typingctx{', ' if names else ''}{names}): return typed(typingctx{', ' if names else ''}{names})",
        scope,
    )
    scope["stub"].__qualname__ = name  # for messages
    return intrinsic(prefer_literal=True)(scope["stub"])


def _c_type(of: type) -> Any:
    return I64 if of is int else I8P


def _c_function(info: CoreInfo) -> Any:
    sig = info.signature
    return ir.FunctionType(I64 if sig.returns else ir.VoidType(), [_c_type(t) for t in sig.params])


@functools.cache
def _call(info: CoreInfo) -> Any:
    """Calls another core function through its C symbol: only its signature is needed here."""
    sig = info.signature

    def typed(typingctx: Any, *args: Any) -> Any:
        for of, arg in zip(sig.params, args, strict=True):
            if of is int:
                if not isinstance(arg, types.Integer | types.Boolean | types.IntegerLiteral):
                    raise TypeError(f"{info.symbol}: {arg} given where an int is declared")
            elif arg != struct_type(of):
                raise TypeError(f"{info.symbol}: {arg} given where {of.__name__} is declared")

        def codegen(context: Any, builder: Any, sig_: Any, values: Any) -> Any:
            callee = cgutils.get_or_insert_function(builder.module, _c_function(info), info.symbol)
            passed = [
                _as_int(context, builder, value, kind) if of is int else value
                for of, kind, value in zip(sig.params, sig_.args, values, strict=True)
            ]
            out = builder.call(callee, passed)
            return out if sig.returns else context.get_dummy_value()

        return _void_or_int(sig.returns)(*args), codegen

    return _intrinsic(info.body.__name__, typed, len(sig.params))


@functools.cache
def _accessor(at: At[Any]) -> Any:
    record = struct_type(at.cls)

    def typed(typingctx: Any, base: Any, by: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return offset(builder, values[0], _as_int(context, builder, values[1], sig.args[1]))

        return record(base, by), codegen

    return _intrinsic("At", typed, 2)


@functools.cache
def _stack(on: OnStack[Any]) -> Any:
    record = struct_type(on.cls)

    def typed(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            words = (record.size + 7) // 8
            slot = cgutils.alloca_once(builder, ir.ArrayType(I64, words))
            # stored as one value, a large struct would keep the optimiser busy for many seconds
            cgutils.memset(builder, builder.bitcast(slot, I8P), ir.Constant(I64, 8 * words), 0)
            return builder.bitcast(slot, I8P)

        return record(), codegen

    return _intrinsic("OnStack", typed, 0)


@functools.cache
def _here(of: HereRecord[Any]) -> Any:
    record = struct_type(of.cls)

    def typed(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return builder.inttoptr(load_here(builder), I8P)

        return record(), codegen

    return _intrinsic("HereRecord", typed, 0)


@functools.cache
def _extreme(which: Callable[..., Any]) -> Any:
    """``min`` and ``max`` of two integers."""

    def typed(typingctx: Any, *args: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            one, two = (_as_int(context, builder, v, of) for v, of in zip(values, sig.args, strict=True))
            return builder.select(builder.icmp_signed("<" if which is min else ">", one, two), one, two)

        return types.int64(*args), codegen

    return _intrinsic(which.__name__, typed, 2)


def _substitute(info: CoreInfo) -> Any:
    """The function again, with its globals replaced by what numba understands."""
    scope: dict[str, Any] = {"__builtins__": __builtins__, "min": _extreme(min), "max": _extreme(max)}
    for name, value in globals_of(info.body).items():
        if hasattr(value, "__core__"):
            scope[name] = _call(value.__core__)
        elif isinstance(value, Primitive):
            scope[name] = _primitive(value)
        elif isinstance(value, At):
            scope[name] = _accessor(value)
        elif isinstance(value, OnStack):
            scope[name] = _stack(value)
        elif isinstance(value, HereRecord):
            scope[name] = _here(value)
        elif isinstance(value, int | str | tuple):
            scope[name] = value
        else:
            raise CoreError(f"{name_of(info.body)}: the core can't use {name} ({type(value).__name__})")
    return pytypes.FunctionType(info.body.__code__, scope, info.body.__name__)


def _flags() -> Any:
    flags: Any = Flags()
    flags.nrt = False
    flags.error_model = "numpy"
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.no_compile = True  # numba would run its own linker, which knows none of the other functions
    return flags


class _Pipeline(CompilerBase):  # type: ignore[misc]
    """Of numba's passes those that the core's Python needs: no closures, no literal loops, no rewrites."""

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("core")
        for each in (
            TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference, PreLowerStripPhis,
            NativeLowering,
        ):  # fmt: skip
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Keeps a function's module as it was lowered: the whole program is optimised later."""

    text = ""

    def add_ir_module(self, module: Any) -> None:
        self.text += str(module)


def front_end(info: CoreInfo) -> bytes:
    """Bitcode of one function and its C wrapper, unoptimised."""
    argtypes = tuple(types.int64 if t is int else struct_type(t) for t in info.signature.params)
    returned = _void_or_int(info.signature.returns)
    name = name_of(info.body)
    in_function(info.body.__name__)
    with global_compiler_lock:
        try:
            function = _substitute(info)
            library = _Library(_target.codegen(), info.symbol)
            pipeline = _Pipeline(_typing, _target, library, argtypes, returned, _flags(), {})
            made = pipeline.compile_extra(function)
            if any(isinstance(of, types.Float) for of in pipeline.state.typemap.values()):
                # "/": low bits would be lost without a word
                raise CoreError(f"{name}: something in it is a float")
            module = llvm.parse_assembly(library.text)
            for helper in dict.fromkeys(library._linking_libraries):  # "x in (1, 2)" is a function of numba's
                module.link_in(helper._get_module_for_linking(), preserve=True)
            module.link_in(llvm.parse_assembly(_wrapper(info, _target, made.fndesc)))
        except CoreError:
            raise
        except Exception as err:
            raise CoreError(f"{name}: {err}") from err
        return bytes(module.as_bitcode())


def _wrapper(info: CoreInfo, context: Any, fndesc: Any) -> str:
    """``symbol`` with a plain C signature around numba's function; a raised error ends in ``shm_panic(name)``."""
    module = context.codegen().create_library(info.symbol).create_ir_module(info.symbol)
    function = ir.Function(module, _c_function(info), info.symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    inner = context.declare_function(module, fndesc)
    args = list(function.args)
    status, out = context.call_conv.call_function(builder, inner, fndesc.restype, fndesc.argtypes, args)
    with builder.if_then(status.is_error, likely=False):
        panic = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [I8P]), "shm_panic")
        text = cgutils.global_constant(module, "name", cgutils.make_bytearray(info.symbol.encode() + b"\0"))
        text.linkage = "private"
        builder.call(panic, [builder.bitcast(text, I8P)])
    if info.signature.returns:
        builder.ret(out)
    else:
        builder.ret_void()
    return str(module)


def _batches(bitcodes: list[tuple[str, bytes]], size: int = 32) -> list[list[tuple[str, bytes]]]:
    return [bitcodes[at : at + size] for at in range(0, len(bitcodes), size)]


def _joined(modules: list[Any]) -> Any:
    """One module of many. Each step takes time in proportion to the module that it adds to: hence batches."""
    whole = llvm.parse_assembly("")
    for module in modules:
        whole.link_in(module)
    return whole


def _alone(symbol: str, bitcode: bytes) -> Any:
    """A function's module in which nothing else has a name: what numba calls its body may be the name of another."""
    module = llvm.parse_bitcode(bitcode)
    for function in module.functions:
        if not function.is_declaration and function.name != symbol:
            function.linkage = "internal"
    return module


def link(bitcodes: dict[str, bytes], infos: dict[str, CoreInfo], entries: set[str]) -> bytes:
    """One optimised object file; only ``entries`` keep their symbols."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # "flags |= bit" as a byte access is shorter, but the next read of all flags would wait until it is in the cache
    llvm.set_option("core", "-combiner-reduce-load-op-store-width=0")
    whole = _joined([_joined([_alone(*each) for each in batch]) for batch in _batches(list(bitcodes.items()))])
    _define_here(whole)
    for function in whole.functions:
        if function.is_declaration:
            continue
        info = infos.get(function.name)
        if function.name not in entries:
            function.linkage = "internal"
        if info is None or info.inline:
            function.add_function_attribute("alwaysinline")  # numba's body goes into its wrapper
        elif info.cold:
            function.add_function_attribute("noinline")
            function.add_function_attribute("cold")
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(),
        opt=3, reloc="pic", codemodel="small", jit=True,
    )  # fmt: skip
    whole.triple = llvm.get_process_triple()
    whole.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(machine, options)
    manager = passes.getModulePassManager()
    manager.run(whole, passes)
    whole.verify()
    _refuse_unknown(whole, bitcodes, infos)
    return bytes(machine.emit_object(whole))


def _define_here(whole: Any) -> None:
    """The program's one variable (see ``shm.here``), for those of its functions that name it."""
    whole.link_in(llvm.parse_assembly(f"@{HERE} = global i64 0"))
    whole.get_global_variable(HERE).linkage = "internal"


def _refuse_unknown(whole: Any, bitcodes: dict[str, bytes], infos: dict[str, CoreInfo]) -> None:
    """What only numba could link, such as print(), would end the process that loads it."""
    here = ctypes.CDLL(None)
    for name in [f.name for f in whole.functions if f.is_declaration]:
        if name.startswith("llvm.") or name == "shm_panic" or hasattr(here, name):
            continue
        for symbol, bitcode in bitcodes.items():
            if any(f.name == name for f in llvm.parse_bitcode(bitcode).functions):
                raise CoreError(f"{name_of(infos[symbol].body)}: needs {name}, which only numba has")
