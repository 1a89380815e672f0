"""When kswapd and kcompactd of each node were awake."""

from emu.zone.mmzone import Machine
from shm.waitqueue import WaitQueue

__all__ = ["Phases"]

QUEUED = 0xFFFFFFFF  # the half of WaitQueue.state that counts sleepers; the other half counts wake-ups


class _Daemon:
    def __init__(self, queue: WaitQueue) -> None:
        self.queue, self.seen, self.since = queue, 0, -1  # since -1: asleep
        self.spans: list[tuple[int, int]] = []
        self.wakes = 0


class Phases:
    """Spans of time, in ns, as seen at the looks. One that was woken and fell asleep again in between was awake from
    the look before to this one, for all that is known."""

    def __init__(self, m: Machine) -> None:
        self._daemons = {
            **{f"kswapd{node.node_id}": _Daemon(node.kswapd_wait) for node in m.nodes[: m.nr_nodes]},
            **{f"kcompactd{node.node_id}": _Daemon(node.kcompactd_wait) for node in m.nodes[: m.nr_nodes]},
        }
        for daemon in self._daemons.values():
            daemon.seen = daemon.queue.state >> 32
        self._before = 0

    def look(self, now: int) -> None:
        """Now."""
        for daemon in self._daemons.values():
            state = daemon.queue.state
            woken, daemon.seen = (state >> 32) - daemon.seen, state >> 32
            daemon.wakes += woken
            if state & QUEUED == 0:
                daemon.since = now if daemon.since < 0 else daemon.since
            elif daemon.since >= 0:
                daemon.spans.append((daemon.since, now))
                daemon.since = -1
            elif woken and self._before:
                daemon.spans.append((self._before, now))
        self._before = now

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """Of each daemon; spans that touch are one."""
        return {name: _joined(daemon, self._before) for name, daemon in self._daemons.items()}

    def wakes(self) -> dict[str, int]:
        """How often each was woken."""
        return {name: daemon.wakes for name, daemon in self._daemons.items()}


def _joined(daemon: _Daemon, now: int) -> list[tuple[int, int]]:
    spans = [*daemon.spans, (daemon.since, now)] if daemon.since >= 0 else daemon.spans
    out: list[tuple[int, int]] = []
    for begin, end in spans:
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], end
        else:
            out.append((begin, end))
    return out
