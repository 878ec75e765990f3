"""Workers that are replaced, and files that are reloaded, under load; workers that hang."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.bodies import ANTHROPIC, request
from tests.support.commands import COMMANDS
from tests.support.paced_streams import Streams
from tests.support.raw_client import Connection, render
from tests.support.service import BOTH_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(120)]

STREAMS = int(os.environ.get("CAPIO_RESTART_STREAMS", "40"))
"""200 in the long form."""
TOKENS = 400 if STREAMS <= 50 else 1250
"""50 are a second: on an idle machine all that is done takes less."""
NEW_MODEL = '[[models]]\nname = "{}"\ndeployments = [{{ provider = "demo", model = "m" }}]\n'


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, paced_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway that survives every test."""
    made = Service(
        tmp_path_factory.mktemp("restart"),
        paced_upstream,
        extra="[money]\nlease_s = 5\nrenew_s = 1\n",
    )
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def key(service: Service) -> Key:
    """A key of that gateway."""
    return service.new_key("restart")


class Load:
    """Short calls without a pause over kept-alive connections, while a block runs."""

    def __init__(self, service: Service, key: Key, clients: int = 3) -> None:
        self._service = service
        self._key = key
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self._stop = threading.Event()
        self.calls = 0
        self.connections = 0
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        body = request(ANTHROPIC, BOTH_MODEL, "/tokens 1")
        sent = render("POST", ANTHROPIC, body, x_api_key=self._key.raw)
        while not self._stop.is_set():
            try:
                self._converse(sent)
            except (OSError, AssertionError, ValueError, EOFError) as failure:
                self.failures.append(repr(failure))

    def _converse(self, sent: bytes) -> None:
        """Ask over one connection until its server closes it, or for a few calls."""
        with Connection(self._service.port) as connection:
            self.connections += 1
            for _ in range(5):
                connection.send(sent)
                answer = connection.answer()
                self.calls += 1
                if answer.status != 200 or not answer.complete:
                    self.failures.append(f"status {answer.status}: {answer.body!r}")
                if answer.headers.get("connection") == "close" or self._stop.is_set():
                    return


def models(service: Service, key: Key) -> set[str]:
    """Return the models that the gateway lists."""
    with Connection(service.port) as connection:
        answer = connection.request("GET", "/v1/models", authorization=f"Bearer {key.raw}")
        return {model["id"] for model in answer.json["data"]}


def events(service: Service, name: str) -> list[dict[str, object]]:
    """Return the log lines of an event."""
    lines = service.process.log().split("\n")
    return [json.loads(line) for line in lines if f'"event":"{name}"' in line]


def test_restart_and_ten_reloads_fail_no_call(service: Service, key: Key) -> None:
    """Streams that run end whole, calls over kept-alive connections go on, all workers are new."""
    old = service.process.workers()
    path = service.process.config_path
    good = path.read_text()
    with Streams(service, key, STREAMS, TOKENS) as streams, Load(service, key) as load:
        restarted = threading.Thread(target=service.process.capio, args=("restart",))
        restarted.start()
        wait_until_sync(lambda: set(service.process.workers()) - set(old), 20)
        assert not streams.answers, "the streams had ended before the restart"
        for number in range(10):
            path.write_text(good + NEW_MODEL.format(f"new-{number}"))
            assert "Applied by 2 workers." in service.process.capio("reload")
        restarted.join()
        print(f"{STREAMS} streams, {load.calls} calls over {load.connections} connections")
        assert "new-9" in models(service, key)

    path.write_text(good)
    assert not streams.failures
    assert streams.whole == [*range(STREAMS)]
    assert load.failures == []
    assert load.calls > load.connections > 10
    wait_until_sync(lambda: not set(old) & set(service.process.workers()), 20)


def test_reload_says_why_not(service: Service, key: Key) -> None:
    """Exit code 1 or 2 with the error, and the old models stay."""
    path = service.process.config_path
    good = path.read_text()
    names = {each["name"] for each in tomllib.loads(good)["models"]}
    wait_until_sync(lambda: models(service, key) == names, 10)  # after what other tests changed
    path.write_text(good + '[[providers]]\nname = "x"\napi_key_env = "CAPIO_TEST_NOT_SET"\n'
                    'openai = { base_url = "http://127.0.0.1:1/v1" }\n')  # fmt: skip
    missing = COMMANDS.run("reload", "--config", str(path))
    path.write_text(good + "[nonsense]\n")
    invalid = COMMANDS.run("reload", "--config", str(path))
    path.write_text(good)

    assert missing.code == 1
    assert "CAPIO_TEST_NOT_SET is not set" in missing.stderr
    assert invalid.code == 2
    assert "nonsense" in invalid.stderr
    assert models(service, key) == names


def test_changed_file_is_applied_and_an_invalid_one_is_not(service: Service, key: Key) -> None:
    """Without any signal; a file with an error is logged once, with its name for the cause."""
    path = service.process.config_path
    good = path.read_text()
    path.write_text(good + NEW_MODEL.format("watched"))
    wait_until_sync(lambda: "watched" in models(service, key), 10)

    path.write_text(good + "[nonsense-of-the-file]\n")
    wait_until_sync(lambda: "nonsense-of-the-file" in service.process.log(), 10)
    time.sleep(1.2)  # two more looks

    rejected = [each for each in events(service, "config_rejected") if each["cause"] == "file"]
    assert len([each for each in rejected if "nonsense-of-the-file" in json.dumps(each)]) == 1
    assert "watched" in models(service, key)
    path.write_text(good)
    wait_until_sync(lambda: "watched" not in models(service, key), 10)


def test_stopped_worker_is_killed_settled_and_replaced(service: Service, key: Key) -> None:
    """Within the heartbeat's timeout and a few seconds; its call is charged as abandoned."""
    wait_until_sync(lambda: len(service.process.workers()) == 2, 30)
    victim = service.process.workers()[0]
    with Streams(service, key, 12, tokens=200) as streams:
        time.sleep(1.5)  # what the calls cost so far is stored every second
        began = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        wait_until_sync(
            lambda: victim not in service.process.workers() and len(service.process.workers()) == 2,
            20,
        )
        seconds = time.monotonic() - began
    print(f"a stopped worker was replaced after {seconds:.1f} s")

    assert 9 <= seconds < 15  # the last heartbeat was before the signal
    killed = events(service, "worker_killed")
    assert [each["worker"] for each in killed] == [victim]
    cut = 12 - len(streams.whole)
    assert 0 < cut < 12, "the kernel gave all streams to one worker"
    wait_until_sync(lambda: abandoned(service, key) == cut, 30)


def abandoned(service: Service, key: Key) -> int:
    """Return how many calls of a key were settled for their dead worker, and charged."""
    path = service.process.data_dir / "capio.db"
    query = (
        "select count(*) from usage_events"
        " where key_id = ? and outcome = 'abandoned' and cost_nanousd > 0"
    )
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute(query, (key.id,)).fetchone()
        return int(count)
