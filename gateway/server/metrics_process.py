"""
The metrics process: sums the metrics of all processes and serves them on a separate port.

Scrapes cost the workers nothing and continue while workers are replaced. Run as
`python -m gateway.server.metrics_process DIRECTORY HOST PORT`, with PROMETHEUS_MULTIPROC_DIR set
to DIRECTORY.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import sys
import threading

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.signals import end_with_parent

_PID = re.compile(r"_(\d+)\.db$")
_SWEEP_S = 5.0


def sweep_dead(directory: str) -> list[int]:
    """Remove the live gauges of exited processes; return their ids."""
    pids = {
        int(m.group(1)) for m in map(_PID.search, glob.glob(f"{directory}/gauge_live*.db")) if m
    }
    dead = [pid for pid in sorted(pids) if not os.path.exists(f"/proc/{pid}")]
    for pid in dead:
        mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
    return dead


def main(directory: str, host: str, port: int) -> None:
    """Serve until SIGTERM. SIGINT is ignored: the supervisor stops this process last."""
    end_with_parent()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    server, thread = start_http_server(port, host, registry)
    while not stopping.wait(_SWEEP_S):
        sweep_dead(directory)
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
