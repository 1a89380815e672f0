"""Interrupts that come in at any instruction: a signal whose handler is native code.

With polling alone an interrupt arrives where the code looks for it. A device doesn't wait for that. An interrupt source
therefore sets the pending bits and sends the CPU's process a real-time signal; the handler looks at the CPU's
interrupt flag, as ``do_IRQ()`` would not have been entered by a processor with interrupts off, and otherwise runs the
handlers right there, in the middle of whatever the process was doing. So what keeps the pcp lists whole really is
``local_irq_save()``.

The handler is a few instructions around :func:`emu.cpu.irq.interrupt`, made for each process, since it must know its
records. Interpreted, it is a Python handler, which comes in between two bytecodes.
"""

import ctypes
import functools
import platform
import signal
from typing import Any

from llvmlite import ir

from emu.cpu.irq import interrupt
from emu.zone.mmzone import Cpu, Machine
from shm.core import INTERPRETED, Entry
from shm.loader import entry_address, native_address
from shm.struct import address_of

__all__ = ["IRQ_SIGNAL", "install_irq_handler"]

IRQ_SIGNAL = signal.SIGRTMIN + 4
SA_SIGINFO, SA_RESTART = 4, 0x10000000
# where a handler's third argument, a ucontext_t, has the interrupted instruction
IP_AT = {"x86_64": 40 + 16 * 8, "aarch64": 176 + 8 + 32 * 8}

I32, I64 = ir.IntType(32), ir.IntType(64)


class _Sigaction(ctypes.Structure):
    """glibc's ``struct sigaction`` of 64-bit Linux."""

    _fields_ = (
        ("sa_sigaction", ctypes.c_void_p), ("sa_mask", ctypes.c_ulong * 16), ("sa_flags", ctypes.c_int),
        ("sa_restorer", ctypes.c_void_p),
    )  # fmt: skip


def _handler_text(m: Machine, cpu: Cpu, target: int) -> str:
    """``void handler(int, siginfo_t *, void *context)``: interrupt(m, cpu, context's instruction pointer)."""
    module = ir.Module(name="irq_handler")
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [I32, I64, I64]), "emu_irq_handler")
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    at = b.add(fn.args[2], I64(IP_AT[platform.machine()]))
    ip = b.load(b.inttoptr(at, I64.as_pointer()))
    kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
    called = b.inttoptr(I64(target), kind.as_pointer())
    b.call(called, [I64(address_of(m)), I64(address_of(cpu)), ip])
    b.ret_void()
    return str(module)


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def install_irq_handler(m: Machine, cpu: Cpu) -> None:
    """From now on IRQ_SIGNAL interrupts this process, which is ``cpu``."""
    if INTERPRETED:
        signal.signal(IRQ_SIGNAL, lambda _number, _frame: interrupt(m, cpu, 0))
        return
    target: Any = interrupt
    assert isinstance(target, Entry)
    code = native_address(_handler_text(m, cpu, entry_address(target)), "emu_irq_handler")
    action = _Sigaction(sa_sigaction=code, sa_flags=SA_SIGINFO | SA_RESTART)
    if _libc().sigaction(int(IRQ_SIGNAL), ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction")
