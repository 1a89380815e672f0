"""Tools for tests that need an order of CPUs, or all orders.

General layout: what is public is re-exported here; each module is one tool.

``race_test``      (``races``) a pytest decorator: no schedule of a scenario may fail; or one must
``Sequencer``      (``sequencer``) an order forced by hand, from one named point to the next
``Clock``          (``clock``) a Sequencer's virtual time: read it, let it pass
``litmus``         (``litmus``) small scenarios of variables, locks and queues in one call
``explore``        (``runs``) explore a scenario's schedules with what needs no further thought: a Result
``check_determinism``  (``runs``) play schedules twice and compare: a Diagnosis

Scenarios are data (``emu.race.scenario``) or names of the catalogue (``emu race list``). ``emu.pytest_plugin`` adds the
command-line options of ``race_test``; it works without them, too.
"""

from emu.race.doctor import Diagnosis, Difference
from emu.race.explore import Result
from emu.race.scenario import Scenario, ScenarioError, small
from emu.race.schedule import Schedule
from emu.race.verdict import Verdict
from emu.testing.clock import Clock
from emu.testing.litmus import litmus
from emu.testing.races import race_test
from emu.testing.runs import check_determinism, explore
from emu.testing.sequencer import Sequencer

__all__ = [
    "Clock", "Diagnosis", "Difference", "Result", "Scenario", "ScenarioError", "Schedule", "Sequencer", "Verdict",
    "check_determinism", "explore", "litmus", "race_test", "small",
]  # fmt: skip
