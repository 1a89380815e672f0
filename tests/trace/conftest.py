"""A run that has a bit of everything, recorded."""

import pytest

from emu.cli.recorded import Recorded
from emu.config import make_config
from emu.run import WorkloadRun
from emu.trace.recording import Recording, load_recording


@pytest.fixture(scope="session")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Two CPUs that want more memory than there is: kswapd, direct reclaim, swap, retries; locks too."""
    path = tmp_path_factory.mktemp("squeezed") / "r.emurec"
    values = {"cpus": 2, "memory": "32M", "swap": "64M", "fill": 1.3, "workload": "hog", "operations": 20_000}
    with WorkloadRun(make_config({**values, "trace": True, "lock_stat": True}, "test")) as work:
        with Recorded(work.machine, path, "hog"):
            work.run()
    return load_recording(path)
