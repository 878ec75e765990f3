"""`python -m gateway.demo PORT [PACE_S]`: runs the demo upstream."""

from __future__ import annotations

import functools
import sys

from granian import Granian
from granian.constants import Interfaces, Loops

from gateway.demo.app import DemoUpstream
from gateway.signals import end_with_parent


def main(port: int, pace_s: float) -> None:
    """Serve on the loopback interface until SIGTERM."""
    end_with_parent()
    server = Granian(
        "gateway.demo",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGINL,
        loop=Loops.uvloop,
        backlog=4096,
        backpressure=8192,
        log_enabled=False,
        workers_kill_timeout=1,
    )
    server.serve(target_loader=functools.partial(_load, pace_s), wrap_loader=False)


def _load(pace_s: float) -> DemoUpstream:
    end_with_parent()
    return DemoUpstream(pace_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
