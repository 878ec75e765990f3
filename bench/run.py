"""
Compares the gateway with nginx and other gateways: CPU of the whole process tree, latency, memory.

    python -m bench.run [--rounds 5] [--seconds 2] [--scenario NAME ...] [--peer NAME ...]
                        [--gateway NAME=TREE[:PYTHON] ...] [--direct-port]
                        [--save FILE] [--around COMMAND --slice 180 --pause 60]

All systems run on the first core, each with all its processes; mock upstream and load generator
share the second. In each round every scenario is measured for one system after the other. The
medians of the rounds are printed, and `--save` keeps everything as JSON, from which `make docs`
writes tables and plots. bench/README.md says more.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme

from bench.harness.measure import Meter
from bench.harness.processes import Noise
from bench.harness.results import Record, Results, environment
from bench.harness.rounds import Slices, expected_s, groups
from bench.harness.scenarios import MODELS, SCENARIOS, Scenario, chosen
from bench.harness.systems import (
    MOST_STREAMS,
    PROXY,
    Build,
    System,
    Upstream,
    mock_upstream,
    nginx,
    whole_gateway,
)
from bench.harness.tables import OURS, kinds_of, printed
from bench.peers import PEERS
from bench.peers.process import AbsentError, Place
from bench.peers.verify import verify
from tests.support.gateway_process import free_port


def main() -> None:
    """Run the scenarios and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--scenario", action="append", choices=[each.name for each in SCENARIOS])
    parser.add_argument("--peer", action="append", choices=[*PEERS, "all"], default=[])
    parser.add_argument(
        "--gateway", action="append", type=Build.parse, default=[], metavar="NAME=TREE[:PYTHON]",
        help="another build of the gateway, or this one on another interpreter; named capio, it"
        " stands for this one",
    )  # fmt: skip
    parser.add_argument(
        "--direct-port", action="store_true",
        help="measure each gateway on its direct port, too, in processes of its own",
    )  # fmt: skip
    parser.add_argument("--save", type=Path, help="keep the results as JSON in this file")
    parser.add_argument("--around", help="command to run with `begin` and `end` around slices")
    parser.add_argument("--slice", type=float, default=180.0, help="seconds of a slice")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds between slices")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    system_cores, load_cores = {cores[0]}, {cores[-1]}
    os.sched_setaffinity(0, load_cores)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    noted = {"note": options.note} if options.note else {}
    results = Results(environment(**noted))
    slices = Slices(options.around, options.slice, options.pause)

    def save() -> None:
        if options.save:
            results.save(options.save)

    # Processes that this one has started must end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    peers = list(PEERS) if "all" in options.peer else options.peer
    gateways = called(options.gateway, direct_port=options.direct_port)
    with started(peers, gateways, system_cores, load_cores, results) as systems:
        results.systems = {system.name: system.about for system in systems}
        scenarios = chosen(options.scenario)
        try:
            run(scenarios, systems, options.rounds, options.seconds, slices, results, save)
        finally:
            slices.end()
    print(printed(results))


def called(builds: Sequence[Build], *, direct_port: bool) -> list[tuple[Build | None, bool]]:
    """Return each gateway's build, None for this one, and whether its direct port is called."""
    named = {build.name for build in builds}
    ours: list[Build | None] = [] if OURS in named else [None]
    ports = [False, True] if direct_port else [False]
    return [(build, direct) for build in [*ours, *builds] for direct in ports]


@contextmanager
def started(
    peers: Sequence[str], gateways: Sequence[tuple[Build | None, bool]],
    cores: set[int], load_cores: set[int], results: Results,
) -> Iterator[list[System]]:  # fmt: skip
    """Start everything; peers that cannot be started are noted as absent. See `called`."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        home = Path(directory)
        upstream, tls = _certified(home)
        stack.enter_context(mock_upstream(upstream.port, load_cores, *tls))
        systems = [
            System("direct", upstream.port, can=PROXY - {"TLS upstream"}),
            stack.enter_context(nginx(home / "nginx", upstream, cores)),
        ]
        for build, direct in gateways:
            name = (build.name if build else OURS) + ("-direct" if direct else "")
            gateway = whole_gateway(
                name, home / f"gateway-{name}", upstream, cores, MODELS, build=build, direct=direct
            )
            systems.append(stack.enter_context(gateway))
            if (room := systems[-1].most_streams) < MOST_STREAMS:
                report([f"{name} accepts {room:,} streams: more open files are needed"], results)
        for system in systems:
            report(verify(system), results)
        for name in peers:
            with ExitStack() as own:
                place = Place(home / name, upstream, cores, MODELS)
                try:
                    system = own.enter_context(PEERS[name](place))
                    report(verify(system), results)
                except AbsentError as error:
                    print(f"{name} does not take part: {error}", flush=True)
                    results.absent[name] = str(error)
                    continue
                systems.append(system)
                stack.push(own.pop_all())
        yield systems


def report(missing: Sequence[str], results: Results) -> None:
    """Print what a system cannot do although it was expected to, and keep it."""
    for text in missing:
        print(text, flush=True)
        results.environment["without"] = "; ".join(
            filter(None, (results.environment.get("without"), text[:200]))
        )


def _certified(home: Path) -> tuple[Upstream, list[str]]:
    """Make a certificate for `localhost`; return the upstream and what it listens with."""
    authority, files = trustme.CA(), (home / "upstream.pem", home / "upstream.key")
    made = authority.issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(files[0])
    made.private_key_pem.write_to_path(files[1])
    authority.cert_pem.write_to_path(home / "authority.pem")
    upstream = Upstream(free_port(), free_port(), home / "authority.pem")
    return upstream, [str(upstream.tls_port), *map(str, files)]


def run(
    scenarios: Sequence[Scenario], systems: Sequence[System], rounds: int, seconds: float,
    slices: Slices, results: Results, save: Callable[[], None],
) -> None:  # fmt: skip
    """Measure every group of every round, and save after each."""
    meter = Meter(seconds)
    for system in systems:
        meter.idle(system)
    for group in groups(scenarios, systems, rounds):
        slices.before(expected_s(group, seconds))
        for system in group.systems:
            noise = Noise()
            try:
                record = meter.measure(group.round, group.scenario, system)
            except OSError as error:
                record = Record(
                    group.round, group.scenario.name, system.name, 0, 1, 0, 0.0, note=repr(error)
                )
            record = dataclasses.replace(record, others=noise.cores())
            results.records.append(record)
            print(line(record), flush=True)
        save()


def line(record: Record) -> str:
    """Return one record as a line of progress."""
    cpu = "" if record.whole_us is None else f"{record.whole_us:9.1f} us"
    worker = "" if record.whole_us == record.worker_us else f" (worker {record.worker_us})"
    latency = record.gap_ms or record.latency_ms
    return (
        f"{record.round} {record.scenario:20} {record.system:13} {record.units:7} units"
        f" {record.failures:4} failed {cpu}{worker}"
        f"  ttft {record.ttft_ms.get('p50', 0):.2f}/{record.ttft_ms.get('p99', 0):.2f} ms"
        f"  latency or gap {latency.get('p50', 0):.2f}/{latency.get('p99', 0):.2f} ms"
        f"{kinds_of(record.failed)} {record.note}"
    )


if __name__ == "__main__":
    main()
