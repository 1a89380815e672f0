"""A scenario in words: ``emu race show``, and the head of a report's page."""

from collections.abc import Iterator
from dataclasses import fields

from emu.race.diagram import seat_of
from emu.race.scenario import FIXED, NOT_APPLICABLE, OPEN, PLANTED, Op, Scenario
from emu.race.witness import op_text
from emu.zone.boot import Tuning
from emu.zone.mmzone import ZONE_NAMES

__all__ = ["MARKS", "STATUS", "machine_lines", "program_lines", "story_lines", "tuning_words"]

MARKS = {
    "V": "id and subject were seen together",
    "V*": "and so was its backport to 5.10",
    "S": "the subject was seen, the id is from memory",
    "M": "from memory",
    "I": "no fix is known: the window was found by reading 5.10.262",
}
"""How sure a commit's id is."""

STATUS = {
    FIXED: "5.10.262 has the fix",
    OPEN: "The window is open in 5.10.262",
    NOT_APPLICABLE: "5.10.262 has not the code that opens the window",
    PLANTED: "No kernel had it; it shows what 5.10's code is for",
}
"""What a scenario's status says."""


def story_lines(scenario: Scenario) -> list[str]:
    """The story, without the indentation that it has in the source."""
    return [line.strip() for line in scenario.story.strip().splitlines()]


def tuning_words(tuning: Tuning) -> str:
    """What isn't as a machine has it by itself."""
    given = ((f.name, getattr(tuning, f.name), f.default) for f in fields(tuning) if f.name != "deviations")
    return ", ".join(f"{name}={int(value)}" for name, value, default in given if value != default)


def machine_lines(scenario: Scenario) -> Iterator[str]:
    """CPUs, zones, what is set, how it is prepared."""
    shape = scenario.shape
    cpus = len(shape.cpu_node)
    yield f"{cpus} CPU{'s' if cpus > 1 else ''}, {shape.nodes} node{'s' if shape.nodes > 1 else ''}"
    for zone in shape.zones:
        on = ", ".join(f"cpu{cpu}" for cpu, nid in enumerate(shape.cpu_node) if nid == zone.nid)
        yield f"node{zone.nid} {ZONE_NAMES[zone.zid]}: {zone.managed} pages from {zone.start_pfn}" + (
            f" ({on})" if shape.nodes > 1 and on else ""
        )
    if words := tuning_words(scenario.tuning):
        yield words
    if scenario.setup is not None and scenario.setup.__doc__:
        yield " ".join(scenario.setup.__doc__.split())


def program_lines(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Who takes part, and what each does."""
    for name, ops in scenario.programs.items():
        yield name, _ops(ops) or "what it is woken for"
    for name, interrupts in scenario.irqs.items():
        for ops in interrupts:
            yield f"irq{seat_of(name).removeprefix('cpu')}", f"{_ops(ops)}, at any point of {name} with interrupts on"


def _ops(ops: tuple[Op, ...]) -> str:
    return ", ".join(op_text(op) for op in ops)
