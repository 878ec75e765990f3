"""How the gateway ends, and what survives when one of its processes is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.bodies import ANTHROPIC, OPENAI, chat, request
from tests.support.gateway_process import free_port
from tests.support.paced_streams import Streams
from tests.support.raw_client import Answer, Connection, render
from tests.support.service import (
    BOTH_MODEL,
    OPENAI_MODEL,
    DemoProcess,
    Key,
    Service,
)
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(60)]
KNOWN_CALLS = 12
"""Calls of a key that `known` has returned."""


def is_serving(service: Service) -> bool:
    """Return whether the service has logged that it serves."""
    return '"gateway_started"' in service.process.log()


@pytest.fixture(scope="module")
def sturdy(
    tmp_path_factory: pytest.TempPathFactory, paced_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway that survives every test which asks for it, one after the other."""
    # The default deadline of Redis commands, which the test of a paused Redis is about.
    redis = "[redis]\ncommand_timeout_ms = 50\n"
    made = Service(tmp_path_factory.mktemp("sturdy"), paced_upstream, extra=redis)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def sturdy_key(sturdy: Service) -> Key:
    """A key of that gateway, known to all its workers."""
    return known(sturdy, sturdy.new_key("sturdy"))


@pytest.fixture
def service(tmp_path: Path, paced_upstream: DemoProcess) -> Iterator[Service]:
    """A gateway of the test's own, to be ended."""
    made = Service(tmp_path / "gateway", paced_upstream)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def own_key(service: Service) -> Key:
    """A key of that gateway, known to all its workers."""
    return known(service, service.new_key("own"))


def known(service: Service, key: Key) -> Key:
    """Use a key in all workers, so that their caches have it, and wait for the ledger."""
    for _ in range(KNOWN_CALLS):
        assert ask(service, key).status == 200
    wait_until_sync(lambda: service.recorded(key) == KNOWN_CALLS, 20)
    return key


def ask(service: Service, key: Key, model: str = BOTH_MODEL, text: str = "/tokens 1") -> Answer:
    """Make a short call over a connection of its own."""
    with Connection(service.port) as connection:
        body = request(ANTHROPIC, model, text)
        return connection.request("POST", ANTHROPIC, body, x_api_key=key.raw)


def refused(service: Service) -> bool:
    """Return whether connections are refused."""
    try:
        Connection(service.port).close()
    except OSError:
        return True
    return False


def alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be buried does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def none_alive(pids: list[int]) -> bool:
    """Return whether all these processes are gone."""
    return not any(map(alive, pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_under_50_streams_cuts_none(
    service: Service, own_key: Key, number: signal.Signals
) -> None:
    """Accepting ends, every stream goes on to its end, the exit code is 0, no process is left."""
    pids = [service.process.pid, *service.process.children()]
    with Streams(service, own_key, 50, tokens=75) as streams:
        service.process.signal(number)
        wait_until_sync(lambda: refused(service))
        assert not streams.answers, "all streams had ended before the signal could cut them"

    assert not streams.failures
    assert streams.whole == [*range(50)]
    assert service.process.wait() == 0
    assert none_alive(pids)
    assert service.recorded(own_key) == KNOWN_CALLS + 50


def test_stop_while_it_starts_does_not_wait_for_the_grace(
    tmp_path: Path, demo_upstream: DemoProcess
) -> None:
    """Ctrl-C reaches workers that do not serve yet, twice: none of them misses it."""
    for number in range(4):
        service = Service(tmp_path, demo_upstream)
        with service.process.log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "serve", "--config",
                 str(service.process.config_path)],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until_sync(partial(is_serving, service), 20)
        time.sleep(number * 0.07)

        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(10) == 0


def test_ctrl_c_of_the_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    """The terminal's SIGINT goes to all of its processes; the running stream ends whole."""
    port = free_port()
    demo = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "demo", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        assert demo.stdout is not None
        raw = next(word for line in demo.stdout for word in line.split() if "sk-capio" in word)
        wait_until_sync(lambda: ready(port), 20)
        family = [demo.pid, *(child.pid for child in psutil.Process(demo.pid).children(True))]
        with Connection(port) as connection:
            body = chat(OPENAI_MODEL, "/tokens 50", stream=True)
            connection.send(render("POST", OPENAI, body, authorization=f"Bearer {raw}"))
            _, headers = connection.read_head()
            connection.read_chunk()
            os.killpg(demo.pid, signal.SIGINT)
            rest, complete = connection.read_rest(headers)

        assert complete
        assert rest.endswith(b"data: [DONE]\n\n")
        printed = demo.stdout.read()
        assert demo.wait(20) == 0
        assert "Traceback" not in printed
        wait_until_sync(lambda: none_alive(family))
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()


def ready(port: int) -> bool:
    """Return whether a gateway listens on a port."""
    try:
        with Connection(port) as connection:
            return connection.request("GET", "/readyz").status == 200
    except OSError:
        return False


def test_killed_worker_takes_only_its_own_streams_along(sturdy: Service, sturdy_key: Key) -> None:
    """Other streams continue, a new worker starts, and a cut stream is incomplete."""
    victim, other = sturdy.process.workers()
    with Streams(sturdy, sturdy_key, 32, tokens=75) as streams:
        os.kill(victim, signal.SIGKILL)
        wait_until_sync(lambda: len([p for p in sturdy.process.workers() if alive(p)]) == 2, 10)

    assert not streams.failures
    cut = [number for number in range(32) if not streams.is_whole(number)]
    assert streams.whole
    assert cut
    assert not any(streams.answers[number].complete for number in cut)
    assert other in sturdy.process.workers()
    assert victim not in sturdy.process.workers()
    wait_until_sync(lambda: all(ask(sturdy, sturdy_key).status == 200 for _ in range(16)), 10)


def test_worker_may_be_killed_again_and_again(sturdy: Service, sturdy_key: Key) -> None:
    """Two kills in a row do not end the sturdy."""
    for _ in range(2):
        victim = sturdy.process.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until_sync(
            lambda gone=victim: (
                gone not in sturdy.process.workers()  # type: ignore[misc]
                and len(sturdy.process.workers()) == 2
            ),
            10,
        )
        wait_until_sync(lambda: all(ask(sturdy, sturdy_key).status == 200 for _ in range(8)), 10)


def valkey_pid(service: Service) -> int | None:
    """Return the process id of the embedded Valkey."""
    found = [pid for pid, line in service.process.children().items() if "valkey-server" in line]
    return found[0] if found and alive(found[0]) else None


def test_killed_valkey_comes_back_and_no_call_is_lost(sturdy: Service) -> None:
    """Known keys keep working meanwhile; what they used is in SQL in the end."""
    # A key of its own: calls that other tests cut are booked once their leases have expired.
    key = known(sturdy, sturdy.new_key("valkey-killed"))
    first = valkey_pid(sturdy)
    assert first is not None

    os.kill(first, signal.SIGKILL)
    made = 0
    while valkey_pid(sturdy) in (None, first) or made < 30:
        assert ask(sturdy, key).status == 200
        made += 1
    wait_until_sync(lambda: valkey_pid(sturdy) not in (None, first), 10)
    for _ in range(10):
        assert ask(sturdy, key).status == 200
        made += 1

    wait_until_sync(lambda: sturdy.recorded(key) == KNOWN_CALLS + made, 15)


def test_paused_valkey_holds_no_call_up(sturdy: Service) -> None:
    """A Redis that hangs costs a call its deadline at most, and then not even that."""
    pid = valkey_pid(sturdy)
    assert pid is not None
    key = known(sturdy, sturdy.new_key("valkey-paused"))

    os.kill(pid, signal.SIGSTOP)
    try:
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert ask(sturdy, key).status == 200
            times.append(time.monotonic() - began)
    finally:
        os.kill(pid, signal.SIGCONT)
    print(f"with Redis hanging: worst {max(times) * 1000:.0f} ms")

    assert max(times) < 1.0
    wait_until_sync(lambda: sturdy.recorded(key) == KNOWN_CALLS + 20, 15)


def test_killed_supervisor_leaves_no_orphan(service: Service, own_key: Key) -> None:
    """Workers, Valkey, ledger and metrics end by themselves, whichever of them ends first."""
    family = [*service.process.children()]
    assert len(family) >= 5

    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()

    # A worker that finds Valkey gone first puts its usage on disk.
    wait_until_sync(lambda: none_alive(family), 20)


def test_gateway_starts_again_after_a_kill(service: Service, own_key: Key) -> None:
    """Nothing that a killed gateway left on disk keeps the next one from starting."""
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()

    service.process.start()

    assert ask(service, own_key).status == 200
    wait_until_sync(lambda: service.recorded(own_key) == KNOWN_CALLS + 1, 10)


@pytest.mark.parametrize(
    "child", ["gateway.server.ledger_process", "gateway.server.metrics_process"]
)
def test_killed_helper_is_started_again(sturdy: Service, sturdy_key: Key, child: str) -> None:
    """The ledger writer and the metrics server come back."""

    def running() -> list[int]:
        lines = sturdy.process.children().items()
        return [pid for pid, line in lines if child in line and alive(pid)]

    (first,) = running()
    os.kill(first, signal.SIGKILL)

    wait_until_sync(lambda: running() not in ([], [first]), 10)
    assert ask(sturdy, sturdy_key).status == 200


NEW_MODEL = """
[[models]]
name = "brand-new"
deployments = [{ provider = "demo", model = "brand-new" }]
"""


def test_reload_takes_a_new_model_and_cuts_no_stream(sturdy: Service, sturdy_key: Key) -> None:
    """SIGHUP: running streams end whole, new calls find the model, in every worker."""
    assert ask(sturdy, sturdy_key, "brand-new").status == 404
    with Streams(sturdy, sturdy_key, 24, tokens=150) as streams:
        with sturdy.process.config_path.open("a") as config:
            config.write(NEW_MODEL)
        workers = sturdy.process.workers()
        sturdy.process.signal(signal.SIGHUP)
        wait_until_sync(
            lambda: all(ask(sturdy, sturdy_key, "brand-new").status == 200 for _ in range(16)), 5
        )
        assert not streams.answers, "the new model was there only after the streams had ended"

    assert not streams.failures
    assert streams.whole == [*range(24)]
    assert sturdy.process.workers() == workers


def test_reload_refuses_no_call_meanwhile(sturdy: Service, sturdy_key: Key) -> None:
    """From the signal to the last worker's change every call gets its response."""
    sturdy.process.signal(signal.SIGHUP)
    until = time.monotonic() + 1.5
    statuses = set()
    while time.monotonic() < until:
        statuses.add(ask(sturdy, sturdy_key).status)

    assert statuses == {200}


def test_bad_reload_keeps_what_was_there(sturdy: Service, sturdy_key: Key) -> None:
    """An invalid setting is logged with its key; models and streams are unchanged."""
    path = sturdy.process.config_path
    good = path.read_text()
    with Streams(sturdy, sturdy_key, 8, tokens=50) as streams:
        path.write_text(good + NEW_MODEL.replace("brand-new", "never").replace("demo", "nobody"))
        sturdy.process.signal(signal.SIGHUP)
        wait_until_sync(lambda: "config_rejected" in sturdy.process.log(), 10)
        path.write_text(good)

    assert streams.whole == [*range(8)]
    wait_until_sync(lambda: all(ask(sturdy, sturdy_key).status == 200 for _ in range(8)), 10)
    assert ask(sturdy, sturdy_key, "never").status == 404
    assert "nobody" in sturdy.process.log()


def test_the_last_line_of_the_start_says_that_all_workers_serve(service: Service) -> None:
    """The log says that requests are served."""
    wait_until_sync(partial(is_serving, service), 20)

    lines = [json.loads(line) for line in service.process.log().splitlines() if line[:1] == "{"]
    events = [line["event"] for line in lines if "event" in line]

    started = events.index("gateway_started")
    assert "worker_started" in events[:started]
    assert events[started + 1 :] == []
    assert events.count("worker_started") == 2
