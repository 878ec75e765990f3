"""Reads and checks the providers and models in SQL, for commands."""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple

import click

from gateway.cli.diagnosis.findings import Finding, ok, warning
from gateway.cli.diagnosis.stores import has_database
from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import ConfigError, Secrets, Settings, Wanted, read_text, resolve_secrets
from gateway.settings.entries.credentials import StoredCredentials
from gateway.settings.entries.merge import StoredEntry, merge
from gateway.store.catalogue.records import CatalogueRecords
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import pending_revisions

_SUBJECT = "catalogue in SQL"
_ADD = (
    "add a provider and a model on the page Catalogue, or with PUT /admin/providers/NAME and "
    "PUT /admin/models/NAME"
)
_REMEDY = "change the entry with the admin API or on the page Catalogue"


class CheckedCatalogue(NamedTuple):
    """The settings with the entries in force, their credentials, and what was found."""

    settings: Settings
    credentials: dict[str, tuple[str, ...]]
    findings: list[Finding]


async def check_catalogue(settings: Settings, secrets: Secrets) -> CheckedCatalogue:
    """Return the settings with the entries of SQL; only the file's if SQL cannot be read."""
    if not settings.catalogue.sql:
        return CheckedCatalogue(settings, {}, [])
    if not has_database(settings):
        return CheckedCatalogue(settings, {}, _without_models(settings))
    try:
        stored = await _read(settings, secrets)
    except (GatewayError, OSError, ValueError):  # reported by the check of SQL
        return CheckedCatalogue(settings, {}, [])
    credentials = StoredCredentials(os.environ, read_text)
    merged = merge(settings, stored, capabilities, credentials.check)
    findings = [warning(_SUBJECT, problem, _REMEDY) for problem in merged.problems]
    if stored and not findings:
        providers = sum(entry.kind == "provider" for entry in stored)
        found = f"{providers} providers and {len(stored) - providers} models, all in force"
        findings.append(ok(_SUBJECT, found))
    findings += _without_models(merged.settings)
    return CheckedCatalogue(merged.settings, credentials.found, findings)


def _without_models(settings: Settings) -> list[Finding]:
    if settings.models:
        return []
    return [warning(_SUBJECT, "no model is served, so calls are refused", _ADD)]


def served_settings(settings: Settings) -> Settings:
    """Return the settings with the entries of SQL; without, and a warning, if it is unavailable."""
    if not settings.catalogue.sql or not has_database(settings):
        return settings
    try:
        secrets = resolve_secrets(settings, os.environ, read_text, wanted=Wanted.STORES)
        stored = asyncio.run(_read(settings, secrets))
    except (ConfigError, GatewayError, OSError, ValueError) as failure:
        reason = failure.detail if isinstance(failure, GatewayError) else str(failure)
        click.echo(f"Warning: without the providers and models in SQL: {reason}", err=True)
        return settings
    return merge(settings, stored, capabilities).settings


async def _read(settings: Settings, secrets: Secrets) -> tuple[StoredEntry, ...]:
    database = Database(settings, secrets.sql_password)
    try:
        if await pending_revisions(database):
            return ()
        return (await CatalogueRecords(database).read()).entries
    finally:
        await database.aclose()
