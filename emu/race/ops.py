"""The operations that programs consist of, by family."""

from emu.race.area import OpRecord, RaceArea
from emu.race.ops_litmus import LITMUS_OPS, run_litmus_op
from emu.race.ops_pages import PAGE_OPS, run_pages_op
from emu.race.ops_reclaim import RECLAIM_OPS, run_reclaim_op
from emu.race.ops_tasks import TASK_OPS, run_tasks_op
from emu.race.scenario import OpKind
from emu.zone.mmzone import Cpu, Machine
from shm.core import core

FAMILY = 32

OPS: dict[str, OpKind] = {kind.name: kind for kind in (*PAGE_OPS, *RECLAIM_OPS, *TASK_OPS, *LITMUS_OPS)}
"""By name."""


@core(cold=True)
def run_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> None:
    """Do one operation on a CPU."""
    family = op.code // FAMILY
    if family == 0:
        op.result = run_pages_op(m, cpu, a, op)
    elif family == 1:
        op.result = run_reclaim_op(m, cpu, a, op)
    elif family == 2:
        op.result = run_tasks_op(m, cpu, a, op)
    else:
        op.result = run_litmus_op(m, cpu, a, op)
    op.done += 1
