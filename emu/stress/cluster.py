"""Points of a sweep on a cluster of dask.distributed: ``--executor ADDRESS`` or ``local:N``.

A worker gets plain data and gives plain data back. It runs each point in a Python of its own, because a machine forks
its CPUs and a worker has threads. The optional extra ``cluster`` brings distributed.
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

__all__ = ["cluster_points", "point_elsewhere"]

CONNECT = "5s"
_POINT = "import json, sys; from emu.stress.lock import point; json.dump(point(json.load(sys.stdin)), sys.stdout)"

Values = dict[str, Any]


def point_elsewhere(config: Values) -> Values:
    """:func:`emu.stress.lock.point` in a process of its own; RuntimeError with its last line if that fails."""
    done = subprocess.run(
        [sys.executable, "-c", _POINT], input=json.dumps(config), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        raise RuntimeError(last)
    report: Values = json.loads(done.stdout)
    return report


def _line(err: BaseException) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]


@contextmanager
def cluster_points(executor: str) -> Iterator[Callable[[list[Values]], Iterator[Values]]]:
    """What runs points on a cluster; ConfigError if there is none."""
    local = re.fullmatch(r"local:(\d+)", executor)
    if local and not 1 <= int(local[1]) <= 256:
        raise ConfigError(f"--executor {executor}: give 1 to 256 workers")
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise ConfigError(
            f"--executor {executor}: distributed is not installed: pip install 'emu-pagealloc[cluster]'"
        ) from None
    lost = (RuntimeError, OSError, distributed.CancelledError, distributed.scheduler.KilledWorker)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cluster = None
    try:
        if local:
            cluster = distributed.LocalCluster(n_workers=int(local[1]), threads_per_worker=1, dashboard_address=None)
        try:
            client = distributed.Client(cluster or executor, timeout=CONNECT)
        except (OSError, ValueError, TypeError) as err:
            raise ConfigError(f"--executor {executor}: {_line(err)}") from err
        with client:

            def points(configs: list[Values]) -> Iterator[Values]:
                futures = [client.submit(point_elsewhere, config, pure=False) for config in configs]
                for future in futures:
                    try:
                        yield future.result()
                    except lost as err:
                        raise MachineError(f"a point on {executor}: {_line(err)}") from err

            yield points
    finally:
        if cluster is not None:
            cluster.close()
