"""Work on a cluster of dask.distributed: ``--executor ADDRESS`` or ``local:N``.

A worker gets plain data and gives plain data back. It runs each point of a sweep, or batch of parts of an exploration,
in a Python of its own, because a machine forks its CPUs and a worker has threads. The optional extra ``cluster`` brings
distributed.
"""

import importlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from emu.config import ConfigError
from emu.machine import MachineError
from emu.race.crew import Batch, Played
from emu.race.scenario import ScenarioError

__all__ = ["ClusterCrew", "cluster", "cluster_points", "parts_elsewhere", "point_elsewhere"]

CONNECT = "5s"
BATCH = 50  # parts of CHUNK schedules: a second, so that starting a Python for them is worth it
_POINT = "import json, sys; from emu.stress.lock import point; json.dump(point(json.load(sys.stdin)), sys.stdout)"
_PARTS = "import json, sys; from emu.stress.parts import play; json.dump(play(json.load(sys.stdin)), sys.stdout)"

Values = dict[str, Any]


def point_elsewhere(config: Values) -> Values:
    """:func:`emu.stress.lock.point` in a process of its own; RuntimeError with its last line if that fails."""
    return _elsewhere(_POINT, config)


def parts_elsewhere(values: Values) -> Values:
    """:func:`emu.stress.parts.play` in a process of its own; RuntimeError with its last line if that fails."""
    return _elsewhere(_PARTS, values)


def _elsewhere(program: str, values: Values) -> Values:
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(values), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        raise RuntimeError(last)
    report: Values = json.loads(done.stdout)
    return report


def _line(err: BaseException) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]


@contextmanager
def cluster(executor: str) -> Iterator[tuple[Any, Any]]:
    """The distributed module and a client of a cluster; ConfigError if there is none."""
    local = re.fullmatch(r"local:(\d+)", executor)
    if local and not 1 <= int(local[1]) <= 256:
        raise ConfigError(f"--executor {executor}: give 1 to 256 workers")
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise ConfigError(
            f"--executor {executor}: distributed is not installed: pip install 'emu-pagealloc[cluster]'"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    own = None
    try:
        if local:
            own = distributed.LocalCluster(n_workers=int(local[1]), threads_per_worker=1, dashboard_address=None)
        try:
            client = distributed.Client(own or executor, timeout=CONNECT)
        except (OSError, ValueError, TypeError) as err:
            raise ConfigError(f"--executor {executor}: {_line(err)}") from err
        with client:
            yield distributed, client
    finally:
        if own is not None:
            own.close()


def _lost(distributed: Any) -> tuple[type[BaseException], ...]:
    return RuntimeError, OSError, distributed.CancelledError, distributed.scheduler.KilledWorker


@contextmanager
def cluster_points(executor: str) -> Iterator[Callable[[list[Values]], Iterator[Values]]]:
    """What runs points on a cluster; ConfigError if there is none."""
    with cluster(executor) as (distributed, client):

        def points(configs: list[Values]) -> Iterator[Values]:
            futures = [client.submit(point_elsewhere, config, pure=False) for config in configs]
            for future in futures:
                try:
                    yield future.result()
                except _lost(distributed) as err:
                    raise MachineError(f"a point on {executor}: {_line(err)}") from err

        yield points


class ClusterCrew:
    """A crew for :func:`emu.race.spread.spread`. Every worker must find the scenario: by its id, or the file of one's
    own at the same place."""

    batch = BATCH

    def __init__(self, distributed: Any, client: Any, executor: str, values: Values) -> None:
        """``values``: ``which`` scenario, ``fix`` and ``unfix`` as on the command line, ``unfixed``."""
        self.distributed, self.client, self.executor, self.values = distributed, client, executor, values
        self.size = max(sum(client.nthreads().values()), 1)
        self.futures: set[Any] = set()

    def give(self, batch: Batch) -> None:
        """To any worker."""
        self.futures.add(self.client.submit(parts_elsewhere, {**self.values, "batch": batch}, pure=False))

    def take(self, seconds: float) -> list[Played]:
        """What has come back."""
        try:
            done = self.distributed.wait(self.futures, timeout=seconds, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return []
        self.futures -= done
        found = []
        for future in done:
            try:
                answer = future.result()
            except _lost(self.distributed) as err:
                raise MachineError(f"a part on {self.executor}: {_line(err)}") from err
            if "error" in answer:
                raise ScenarioError(answer["error"])
            found.append(answer["played"])
        return found
