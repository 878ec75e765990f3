"""`capio doctor`: connects to everything that the configuration names, and says what is wrong."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click
import msgspec

from gateway.cli.config import config_option, load_config
from gateway.cli.diagnosis.catalogue import check_catalogue
from gateway.cli.diagnosis.findings import Finding, State, error
from gateway.cli.diagnosis.machine import check_machine
from gateway.cli.diagnosis.providers import check_providers
from gateway.cli.diagnosis.stores import check_redis, check_sql
from gateway.cli.formats import FAILURE, json_option, print_json
from gateway.settings import ConfigError, Secrets, Settings, Wanted, read_text, resolve_secrets

_PROVIDE_IT = "provide the secret, or change the setting"
_MARKS = {State.OK: "ok", State.WARNING: "WARNING", State.ERROR: "ERROR"}


@click.command()
@config_option
@json_option
def doctor(config_path: Path | None, as_json: bool) -> None:
    """
    Connect to everything that the configuration names; say what is wrong and what to do.

    Redis, SQL, each provider with each credential (by its list of models, which costs nothing),
    clocks, TLS certificates, free disk and the limit on open files. Exits with code 1 if there is
    an error, and with 0 if there are only warnings.
    """
    settings = load_config(config_path)
    found = asyncio.run(examine(settings))
    if as_json:
        print_json(found)
    else:
        for finding in found:
            click.echo(f"{_MARKS[finding.state]:8} {finding.subject}: {finding.detail}")
            if finding.remedy is not None:
                click.echo(f"         -> {finding.remedy}")
    sys.exit(FAILURE if any(each.state is State.ERROR for each in found) else 0)


async def examine(settings: Settings) -> list[Finding]:
    """Return all findings for checked settings."""
    found = list(check_machine(settings))
    credentials: dict[str, tuple[str, ...]] = {}
    skipped: set[str] = set()
    for provider in settings.providers:
        try:
            only = resolve_secrets(Settings(providers=[provider]), os.environ, read_text)
            credentials |= only.providers
        except ConfigError as failure:
            skipped.add(provider.name)
            found += [
                error(f"provider {provider.name}", line.removeprefix("providers[0]."), _PROVIDE_IT)
                for line in failure.errors
            ]
    secrets = _other_secrets(msgspec.structs.replace(settings, providers=[]), found)
    if secrets is not None:
        found += [finding async for finding in check_redis(settings, secrets)]
        found += [finding async for finding in check_sql(settings, secrets)]
        settings, stored, problems = await check_catalogue(settings, secrets)
        found += problems
        credentials |= stored
    found += await check_providers(settings, credentials, skipped)
    return found


def _other_secrets(settings: Settings, found: list[Finding]) -> Secrets | None:
    """Return the secrets of a configuration, or None if those of the stores are missing."""
    for wanted in (Wanted.ALL, Wanted.STORES):
        try:
            return resolve_secrets(settings, os.environ, read_text, wanted=wanted)
        except ConfigError as failure:
            if wanted is Wanted.ALL:
                for line in failure.errors:
                    subject, _, problem = line.partition(": ")
                    found.append(error(subject, problem, _PROVIDE_IT))
    return None
