"""Brings an account's new balance, terms or limits to the gateways that run."""

from __future__ import annotations

import asyncio

import click
from redis.asyncio import Redis

from gateway.cli.config import store_secrets
from gateway.cli.revocation import PublishError, tell
from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings
from gateway.store.accounts.snapshot import SqlAccounts
from gateway.store.limits.account_loader import push_account
from gateway.store.sql.database import Database


def refresh_account(settings: Settings, account_id: str) -> None:
    """Bring what SQL says of an account now into Redis; say so if that is not possible."""
    try:
        asyncio.run(_refresh(settings, store_secrets(settings), account_id))
    except (PublishError, GatewayError) as failure:
        click.echo(
            f"Redis could not be told: {failure}. The gateways will find out by themselves, "
            "at the account's next booked call or its regular reload.",
            err=True,
        )


async def _refresh(settings: Settings, secrets: Secrets, account_id: str) -> None:
    database = Database(settings, secrets.sql_password)

    async def work(client: Redis) -> None:
        prefix = settings.redis.key_prefix
        await push_account(client, prefix, SqlAccounts(database), account_id)

    try:
        await tell(settings, secrets, work)
    finally:
        await database.aclose()
