"""What SIGHUP does to a running gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.service import OPENAI_MODEL, DemoProcess, Service

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]


@pytest.fixture
def service(tmp_path: Path, demo_upstream: DemoProcess) -> Iterator[Service]:
    """A gateway of the test's own, whose configuration may be changed."""
    made = Service(tmp_path, demo_upstream, workers=1)
    try:
        yield made.start()
    finally:
        made.stop()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def names(service: Service, key: str) -> set[str]:
    """Return the models that the gateway lists."""
    request = urllib.request.Request(
        f"{service.url}/v1/models", headers={"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {model["id"] for model in json.load(answer)["data"]}


def add(service: Service, text: str) -> None:
    """Write more into the configuration, and have it read again."""
    with service.process.config_path.open("a") as config:
        config.write(text)
    service.process.signal(signal.SIGHUP)


def test_reload_takes_new_models_without_refusing_a_call(service: Service) -> None:
    """Every call meanwhile gets its response; then the new model is there."""
    key = service.new_key("reload").raw
    model = f'name = "new"\ndeployments = [{{ provider = "demo", model = "{OPENAI_MODEL}" }}]\n'

    (before,) = applied_digests(service)

    add(service, f"[[models]]\n{model}")

    until(lambda: "new" in names(service, key), "the new model never came")
    until(lambda: reloads(service, "applied") == 1.0, "the reload was not counted")
    until(lambda: applied_digests(service) not in ([], [before]), "the digest stayed")
    assert len(applied_digests(service)) == 1


def applied_digests(service: Service) -> list[str]:
    """Return the digests of the configuration that the metrics call applied."""
    return re.findall(
        r'^gateway_config_info\{sha256="([0-9a-f]{12})"\} 1\.0$',
        service.process.metrics(),
        re.MULTILINE,
    )


def sample(service: Service, name: str) -> float:
    """Return the value of a metric."""
    lines = service.process.metrics().splitlines()
    (value,) = [line.split()[-1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def reloads(service: Service, result: str) -> float:
    """Return how many reloads ended with `result`."""
    return sample(service, f'gateway_config_reloads_total{{result="{result}"}}')


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[nonsense]\n", "nonsense"),
        (
            '[[providers]]\nname = "dear"\nopenai = { base_url = "http://127.0.0.1:1/v1" }\n'
            'api_key_env = "CAPIO_TEST_NOT_SET"\n',
            "CAPIO_TEST_NOT_SET is not set",
        ),
    ],
    ids=["unknown section", "missing secret"],
)
def test_reload_with_a_mistake_keeps_the_old_configuration(
    service: Service, text: str, mistake: str
) -> None:
    """The error is logged; the same workers continue with the old settings."""
    key = service.new_key("reload").raw
    before = names(service, key)
    old = service.process.workers()

    add(service, text)

    until(lambda: "config_rejected" in service.process.log(), "nothing was rejected")
    assert mistake in service.process.log()
    assert service.process.workers() == old
    assert names(service, key) == before
    assert reloads(service, "applied") == 0.0
    assert reloads(service, "rejected") >= 1.0
    started_at = sample(service, "gateway_config_last_applied_timestamp_seconds")
    assert time.time() - 60 < started_at < time.time()


def test_worker_that_cannot_start_ends_the_gateway(tmp_path: Path) -> None:
    """The gateway logs the reason and exits with an error, so that it can be restarted."""
    secret = tmp_path / "upstream.key"
    secret.write_text("a-credential")
    gateway = GatewayProcess(
        tmp_path,
        '[[providers]]\nname = "dear"\nopenai = { base_url = "http://127.0.0.1:1/v1" }\n'
        f'api_key_file = {json.dumps(str(secret))}\n[[models]]\nname = "m"\n'
        'deployments = [{ provider = "dear", model = "m" }]\n',
        workers=1,
    )
    try:
        gateway.start()
        secret.unlink()
        os.kill(gateway.workers()[0], signal.SIGKILL)
        code = gateway.wait(45)
    finally:
        gateway.stop()

    assert code != 0
    assert "worker_start_failed" in gateway.log()
    assert "upstream.key cannot be read" in gateway.log()
