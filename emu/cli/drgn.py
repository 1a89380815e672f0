"""``emu drgn``: a running machine in the programmable debugger."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from emu.cli.attach import MachineName, attached
from emu.cli.common import UsageError, app


@app.command("drgn")
def debug(
    script: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A Python file to run; prog is the machine.")
    ] = None,
    machine: MachineName = None,
    command: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Run these statements.")] = None,
) -> None:
    """Open a running machine in the debugger drgn.

    prog is the machine: prog["node_data"][0].node_zones[1]. Needs the extra drgn. With a script or -c it runs that,
    else it is a shell.
    """
    try:
        import drgn.cli
    except ImportError:
        raise UsageError("drgn is not installed: pip install 'emu-pagealloc[drgn]'") from None
    if script and command:
        raise UsageError(f"-c {command}: without a script")
    text = script.read_text() if script else command
    with attached(machine) as board:
        from emu.drgn import program

        prog = program(board)
        drgn.set_default_prog(prog)
        names = _names(prog)
        if text is None:
            drgn.cli.run_interactive(prog, globals_func=lambda known: {**known, **names})
            return
        where = str(script or "-c")
        try:
            exec(compile(text, where, "exec"), names)  # noqa: S102 - what the user asks to be run
        except Exception as err:
            raise UsageError(f"{where}:{_line_of(err, where)}: {type(err).__name__}: {err}") from err
        finally:
            sys.stdout.flush()


def _names(prog: Any) -> dict[str, Any]:
    """What statements may use: drgn's own globals, its helpers that read a machine, ours for lists."""
    import drgn.cli
    from drgn.helpers.linux import cpumask, mm, mmzone, nodemask, percpu, vmstat

    from emu.drgn import free_pages_of, pages_of

    modules = (cpumask, mm, mmzone, nodemask, percpu, vmstat)
    helpers = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {**drgn.cli.default_globals(prog), **helpers, "free_pages_of": free_pages_of, "pages_of": pages_of}


def _line_of(err: Exception, where: str) -> int:
    """The line of the statements at which an error came up; of a syntax error, its own."""
    if isinstance(err, SyntaxError):
        return err.lineno or 0
    return max((f.lineno or 0 for f in traceback.extract_tb(err.__traceback__) if f.filename == where), default=0)
