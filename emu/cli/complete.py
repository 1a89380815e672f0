"""What the shell offers for a value that has been begun (``autocompletion=`` of typer's options)."""

from __future__ import annotations

__all__ = ["proc_files", "races", "sysctls", "trace_formats", "workloads"]


def races(incomplete: str) -> list[str]:
    """Ids of the catalogue."""
    from emu.race.catalogue import catalogue

    return [name for name in catalogue() if name.startswith(incomplete)]


def workloads(incomplete: str) -> list[str]:
    """The last of several names, separated by commas."""
    from emu.workload.catalogue import WORKLOADS

    before, comma, begun = incomplete.rpartition(",")
    return [before + comma + name for name in WORKLOADS if name.startswith(begun)]


def sysctls(incomplete: str) -> list[str]:
    """``vm.NAME=`` of all that a machine has."""
    from emu.zone.sysctl import SYSCTLS

    names = (f"vm.{name}=" for name in SYSCTLS)
    return [name for name in names if name.startswith(incomplete)]


def proc_files(incomplete: str) -> list[str]:
    """What ``emu proc`` prints."""
    from emu.proc import FILES

    return [name for name in (*FILES, "lock_stat") if name.startswith(incomplete)]


def trace_formats(incomplete: str) -> list[str]:
    """What ``emu trace convert`` makes."""
    from emu.trace.convert import CONVERTERS

    return [name for name in CONVERTERS if name.startswith(incomplete)]
