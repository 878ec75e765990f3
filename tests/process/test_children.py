"""What helper processes get to know, and who may read what the gateway writes."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.service import DemoProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

PROVIDER_KEY = "provider-key-9e1f77"
ADMIN_TOKEN = "operator-token-0123456789abcdefghijklmnop"
BYSTANDER = "somebody-elses-secret-22"
LOCALE = "C.UTF-8"


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[GatewayProcess]:
    """A running gateway with secrets in its environment, and files of an older one."""
    home = tmp_path_factory.mktemp("children")
    old = home / "data" / "valkey" / "valkey.log"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier version")
    old.chmod(0o644)
    config = demo_upstream.config().replace(
        'name = "demo"\n', 'name = "demo"\napi_key_env = "PYTHON_PROVIDER_KEY"\n', 1
    )
    made = GatewayProcess(
        home,
        config,
        workers=1,
        extra='[admin]\ntoken_env = "OPERATOR_TOKEN"',
        environment={
            "PYTHON_PROVIDER_KEY": PROVIDER_KEY,
            "OPERATOR_TOKEN": ADMIN_TOKEN,
            "BYSTANDER": BYSTANDER,
            "LC_ALL": LOCALE,
        },
        forked=False,  # the tests read what each process was started with
    )
    try:
        yield made.start()
    finally:
        made.stop()


def environment_of(pid: int) -> dict[str, str]:
    """Return what the kernel shows of a process's environment."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def memory_of(pid: int) -> bytes:
    """Return all that a process has written to its memory."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().split("\n"):
            if " rw-p " not in line:
                continue
            first, _, last = line.split()[0].partition("-")
            memory.seek(int(first, 16))
            with contextlib.suppress(OSError):
                found.append(memory.read(int(last, 16) - int(first, 16)))
    return b"".join(found)


@pytest.mark.parametrize(
    "child", ["gateway.server.ledger_process", "gateway.server.metrics_process", "valkey-server"]
)
def test_helper_has_no_secret_in_its_environment(process: GatewayProcess, child: str) -> None:
    """The environment of a child process holds no provider credential."""
    (pid,) = [pid for pid, line in process.children().items() if child in line]

    memory = memory_of(pid)

    # Valkey moves its environment, so that /proc/PID/environ does not show it.
    assert f"LC_ALL={LOCALE}".encode() in memory
    assert not [s for s in (PROVIDER_KEY, ADMIN_TOKEN, BYSTANDER) if s.encode() in memory]
    if child.startswith("gateway"):
        assert environment_of(pid)["PATH"]


def test_console_has_the_operators_token_and_no_providers_key(process: GatewayProcess) -> None:
    """It serves the admin API, and never calls a provider."""
    (pid,) = [pid for pid, line in process.children().items() if "gateway.console" in line]

    memory = memory_of(pid)

    assert ADMIN_TOKEN.encode() in memory
    assert not [s for s in (PROVIDER_KEY, BYSTANDER) if s.encode() in memory]


def test_worker_has_what_the_settings_name(process: GatewayProcess) -> None:
    """It sends the providers' keys, and reads them again on SIGHUP."""
    (pid,) = process.workers()

    assert environment_of(pid)["PYTHON_PROVIDER_KEY"] == PROVIDER_KEY


def test_everything_written_is_its_users_alone(process: GatewayProcess) -> None:
    """No file or directory of the data directory has a right for group or others."""
    process.capio("accounts", "create", "acme", "--json")
    found = {str(path): path.lstat().st_mode for path in process.data_dir.rglob("*")}

    assert any("appendonly" in path for path in found), json.dumps([*found])
    assert any("valkey.log" in path for path in found)
    assert {path: oct(mode) for path, mode in found.items() if stat.S_IMODE(mode) & 0o077} == {}


def test_children_and_workers_write_private_files(process: GatewayProcess) -> None:
    """Their umask says so, whatever the shell's was."""
    for pid in [process.pid, *process.children()]:
        status = Path(f"/proc/{pid}/status").read_text()
        (umask,) = [line.split()[1] for line in status.split("\n") if line.startswith("Umask")]
        assert umask == "0077", process.children()[pid]
