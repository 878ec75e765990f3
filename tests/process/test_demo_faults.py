"""`capio demo --faults`: the upstream fails, the gateway falls back, the operator sees both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.faults import KINDS
from tests.support.bodies import OPENAI, chat
from tests.support.gateway_process import free_port
from tests.support.raw_client import Connection
from tests.support.service import HELLO, OPENAI_MODEL
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

TLS_MODEL = "MiniMax-M3"


class Demo:
    """A running `capio demo --faults` and what it has printed."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.lines: list[str] = []
        self.first_rules: list[dict[str, object]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "demo", "--faults", "--port", str(self.port)],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def printed(self) -> str:
        """Everything so far."""
        return "".join(self.lines)

    def ready(self) -> bool:
        """Return whether it serves."""
        try:
            with Connection(self.port) as connection:
                return connection.request("GET", "/readyz").status == 200
        except OSError:
            return False

    def faults(self) -> list[str]:
        """Return the lines of the injected faults."""
        return [line for line in self.printed.split("\n") if line.startswith("fault ")]

    def ask(self, model: str, *, stream: bool = True) -> bytes:
        """Return the response to a short prompt, which must be complete."""
        key = next(word for word in self.printed.split() if "sk-capio" in word)
        with Connection(self.port) as connection:
            body = chat(model, "/tokens 3", stream=stream)
            answer = connection.request("POST", OPENAI, body, authorization=f"Bearer {key}")
        assert (answer.status, answer.complete) == (200, True)
        return answer.body

    def administer(self, path: str, method: str, body: object = None) -> list[dict[str, object]]:
        """Send a request to the upstream's own port."""
        found = re.search(r"curl -X PUT (\S+)/faults", self.printed)
        assert found is not None
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(found[1] + path, data, method=method)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            decoded: list[dict[str, object]] = json.loads(answer.read())
            return decoded

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            return self._process.wait(30)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            self.lines.extend(stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        wait_until_sync(demo.ready, 40)
        demo.first_rules = demo.administer("/faults", "GET")
        yield demo
    finally:
        code = demo.stop()
    assert code == 0
    assert "Traceback" not in demo.printed


def test_start_states_the_shares(demo: Demo) -> None:
    """Of every kind, and they are the rules in force."""
    for kind in KINDS:
        assert re.search(rf"^    {kind} +\d+%$", demo.printed, re.MULTILINE)
    rules = demo.first_rules
    assert {rule["deployment"] for rule in rules} == {"main"}
    assert 0.3 < sum(float(str(rule["share"])) for rule in rules) < 0.32


@pytest.mark.parametrize(
    "kind", ["refuse", "cut after=0", "rate_limit", "status", "garbage after=0"]
)
def test_call_falls_back_from_a_fault(demo: Demo, kind: str) -> None:
    """A line says what was broken, and the record who served the call."""
    name, *settings = kind.split()
    fault = {"kind": name, **{key: int(value) for key, value in (s.split("=") for s in settings)}}
    demo.administer("/faults", "PUT", [{"fault": fault, "deployment": "main", "times": 2}])
    before = len(demo.faults())

    def is_faulted() -> bool:
        demo.administer("/served", "DELETE")
        body = demo.ask(OPENAI_MODEL)
        assert HELLO.split()[0].encode() in body
        assert body.endswith(b"data: [DONE]\n\n")
        return len(demo.faults()) > before

    # The faults of the test before may have taken the deployment out for some seconds.
    wait_until_sync(is_faulted, 30)
    assert f"fault {kind} -> main {OPENAI_MODEL}, streamed" in demo.faults()[-1]
    served = demo.administer("/served", "GET")
    assert [row["deployment"] for row in served][-1] == "spare"
    assert served[0]["fault"] == kind


def test_tls_deployment_falls_back(demo: Demo) -> None:
    """Every handshake fails, and no call does."""
    demo.administer("/faults", "DELETE")
    before = len(demo.faults())

    body = demo.ask(TLS_MODEL)

    assert HELLO.split()[0].encode() in body
    wait_until_sync(lambda: len(demo.faults()) > before)
    assert demo.faults()[-1] == "fault tls -> main: a client expected TLS"


def test_faults_come_at_random(demo: Demo) -> None:
    """With the share that a rule states."""
    rule = {"fault": {"kind": "status"}, "deployment": "main", "share": 0.5}
    demo.administer("/faults", "PUT", [rule])
    demo.administer("/served", "DELETE")

    for _ in range(12):
        demo.ask("claude-opus-4-8")

    demo.administer("/faults", "DELETE")
    faults = [row["fault"] for row in demo.administer("/served", "GET")]
    assert sum(fault == "status" for fault in faults) > 0
    assert sum(fault is None for fault in faults) >= 12
