"""
`capio demo`: the complete gateway in front of the demo upstream, with a new API key.

It runs two workers, the embedded Valkey, SQLite, the ledger process and metrics. The data directory
is kept between runs; each start creates one more key.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import click

from gateway import settings as given
from gateway.demo.faults import RANDOM_SHARES
from gateway.operations.people import PeopleOperations
from gateway.server.child import Child
from gateway.server.environment import helper_environment
from gateway.server.start import run
from gateway.server.supervisor import Supervisor
from gateway.settings.urls import host_and_port
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM
from gateway.store.accounts.credits import Credits
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.links import LinkKind
from gateway.store.people.users import UnknownUserError
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.telemetry import logs

DATA_DIR = "capio-data/demo"
_OPERATOR = "operator"
_CREDIT_NANOUSD = 100_000_000_000
"""$100 of credit; topped up at start if less than half is left."""
_MODELS = (
    ("deepseek-v4-flash", 1_000_000, ("0.07", "0.14"), ["openai"]),
    ("claude-opus-4-8", 1_000_000, ("5", "25"), ["anthropic"]),
    ("MiniMax-M3", 1_000_000, ("0.30", "1.20"), ["openai", "anthropic"]),
)

_TLS_MODEL = "MiniMax-M3"
_FAULT_TIMEOUTS = given.Timeouts(first_byte_s=5.0, first_content_s=5.0, idle_s=5.0)
"""So short that hanging faults end while an operator watches; a demo response takes 2 s."""


def demo(port: int = 8080, workers: int = 2, *, faults: bool = False) -> int:
    """Run the demo until Ctrl-C, with random faults if wanted; return the exit code."""
    logs.configure()
    upstream_port = _free_port()
    spare_port = _free_port() if faults else None
    settings = demo_settings(
        port,
        _free_port(port + 1000),
        upstream_port,
        workers,
        spare_port=spare_port,
        console_port=_free_port(port + 2000),
    )
    if not _is_free(settings.server.host, port):
        click.echo(f"Port {port} is in use; choose another with --port.", err=True)
        return 1
    key, dashboard = asyncio.run(_mint(settings))
    command = [sys.executable, "-m", "gateway.demo", str(upstream_port)]
    if spare_port is not None:
        command += ["--spare", str(spare_port), "--faults"]
    environment = helper_environment(settings, os.environ)
    upstream = Child("demo_upstream", command, upstream_port, environment=environment)
    supervisor = Supervisor(settings, extra=[upstream])
    click.echo(introduction(settings, key, dashboard))
    if faults:
        click.echo(faults_introduction(upstream_port))
    return run(settings, supervisor)


def demo_settings(
    port: int,
    metrics_port: int,
    upstream_port: int,
    workers: int,
    *,
    spare_port: int | None = None,
    console_port: int = given.Console().port,
) -> given.Settings:
    """
    Return the demo's settings: one provider with both wires, and models on one or both.

    Args:
        port: Port of the gateway.
        metrics_port: Port of the metrics.
        upstream_port: Port of the demo upstream.
        workers: Worker processes.
        spare_port: Port of the demo upstream's second deployment, to which calls fall back. The
            provider then has short timeouts, and one model a first deployment that expects TLS.
        console_port: Port of the pages' process.
    """
    upstream = f"http://127.0.0.1:{upstream_port}"
    providers = [_provider("demo", upstream, hasty=spare_port is not None)]
    if spare_port is not None:
        providers.append(_provider("demo-spare", f"http://127.0.0.1:{spare_port}"))
        # The upstream speaks no TLS, so that every handshake fails.
        providers.append(_provider("demo-tls", upstream.replace("http:", "https:")))
    models = [
        given.Model(
            name=name,
            context=context,
            max_output=64_000,
            prices=given.Prices(input=prices[0], output=prices[1]),
            deployments=_deployments(name, wires, with_spare=spare_port is not None),
        )
        for name, context, prices, wires in _MODELS
    ]
    return given.Settings(
        brand=given.Brand(public_url=f"http://127.0.0.1:{port}"),
        server=given.Server(port=port, workers=workers, data_dir=DATA_DIR, grace_s=30),
        metrics=given.Metrics(port=metrics_port),
        console=given.Console(port=console_port),
        providers=providers,
        models=models,
    )


def _provider(name: str, base: str, *, hasty: bool = False) -> given.Provider:
    usual = given.Timeouts()
    return given.Provider(
        name=name,
        openai=given.WireEndpoint(base_url=f"{base}/v1"),
        anthropic=given.WireEndpoint(base_url=base),
        timeouts=_FAULT_TIMEOUTS if hasty else usual,
    )


def _deployments(name: str, wires: list[str], *, with_spare: bool) -> list[given.Deployment]:
    providers = ["demo"]
    if with_spare:
        providers.append("demo-spare")
        if name == _TLS_MODEL:
            providers.insert(0, "demo-tls")
    return [
        given.Deployment(
            provider=provider,
            model=name,
            wires=list(wires),  # type: ignore[arg-type]
            priority=rank,
        )
        for rank, provider in enumerate(providers)
    ]


def faults_introduction(upstream_port: int) -> str:
    """Return the text printed at start if faults are injected."""
    shares = "\n".join(f"    {kind:<17}{share:>5.0%}" for kind, share in RANDOM_SHARES.items())
    base = f"http://127.0.0.1:{upstream_port}"
    return f"""  Faults of the main deployment, as shares of its requests; the spare one has none:

{shares}
    tls               every connection of {_TLS_MODEL}'s first deployment

  Change them           curl -X PUT {base}/faults \\
                          -d '[{{"fault": {{"kind": "cut"}}, "share": 0.5}}]'
  What was served       curl {base}/served

  Each injected fault prints a line.
"""


def introduction(settings: given.Settings, key: str, dashboard: str) -> str:
    """Return the text printed at start: the key and the link to the pages, and how to use them."""
    url = settings.brand.public_url
    metrics = host_and_port(settings.metrics.host, settings.metrics.port)
    message = '"messages": [{"role": "user", "content": "Hello"}]'
    body = f'{{"model": "{settings.models[0].name}", "stream": true, {message}}}'
    names = ", ".join(
        f"{model.name} ({'+'.join(model.deployments[0].wires or [])})" for model in settings.models
    )
    return f"""
{settings.brand.name} gateway, demo: no model is behind it, everything else is real.

  Your key, shown once:   {key}

  Try it:
    curl -N {url}/v1/chat/completions \\
      -H "Authorization: Bearer {key}" \\
      -H "Content-Type: application/json" \\
      -d '{body}'

  Dashboard, signed in:   {dashboard}

  OpenAI base URL         {url}/v1
  Anthropic base URL      {url}
  Models                  {names}
  Metrics                 http://{metrics}/metrics
  Data                    {Path(settings.server.data_dir).absolute()}

  Ctrl-C drains running streams and ends everything.
"""


async def _mint(settings: given.Settings) -> tuple[str, str]:
    """Return a new key and a link that signs in as the demo's operator."""
    await migrate(settings)
    database = Database(settings)
    try:
        accounts = Accounts(database)
        found = await accounts.list(name="demo", limit=1)
        account = found[0] if found else await accounts.create("demo")
        if account.balance_nanousd < _CREDIT_NANOUSD // 2:
            await Credits(database).topup(account.id, _CREDIT_NANOUSD, SYSTEM, reason="demo credit")
        made = await Keys(database, settings.brand.key_prefix).create(
            account.id, KeyDetails(name="demo")
        )
        dashboard = await _dashboard_link(settings, database, account.id)
    finally:
        await database.aclose()
    return made.raw, dashboard


async def _dashboard_link(settings: given.Settings, database: Database, account_id: str) -> str:
    people = PeopleOperations(database, settings.brand.public_url)
    try:
        operator = await people.find(_OPERATOR)
    except UnknownUserError:
        operator = await people.create(_OPERATOR, "Demo Operator", SYSTEM, is_operator=True)
        await people.join(operator.id, account_id, "owner", SYSTEM)
    return await people.link(operator.login, LinkKind.ENTER, SYSTEM)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _free_port(wanted: int = 0) -> int:
    """Return `wanted` if it is free, else any free port."""
    if wanted and _is_free("127.0.0.1", wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
