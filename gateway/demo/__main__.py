"""`python -m gateway.demo PORT [PACE_S] [--spare PORT] [--faults]`: runs the demo upstream."""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from gateway.demo.app import DemoUpstream
from gateway.demo.faults import FaultPlan, random_rules
from gateway.signals import end_with_parent


async def _run(port: int, spare: int | None, pace_s: float, *, faults: bool) -> None:
    plan = FaultPlan(random_rules() if faults else ())
    upstream = DemoUpstream(pace_s, plan, _print)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if spare is not None:
        await upstream.listen("spare", spare)
    await upstream.listen("main", port)
    await stop.wait()
    await upstream.aclose()


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (the operator watches this)


def main() -> None:
    """Serve on the loopback interface until SIGTERM."""
    end_with_parent()
    parser = argparse.ArgumentParser(prog="python -m gateway.demo")
    parser.add_argument("port", type=int)
    parser.add_argument("pace_s", type=float, nargs="?", default=0.02)
    parser.add_argument("--spare", type=int, metavar="PORT", help="port of a second deployment")
    parser.add_argument("--faults", action="store_true", help="inject faults at random")
    given = parser.parse_args()
    uvloop.run(_run(given.port, given.spare, given.pace_s, faults=given.faults))


if __name__ == "__main__":
    main()
