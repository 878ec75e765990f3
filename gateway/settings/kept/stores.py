"""The sections about the stores: Redis and SQL."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.settings.types import EnvName, Section, Text


class Redis(Section, frozen=True):
    """The shared state of running calls."""

    url: Annotated[
        Text,
        Meta(
            description='`"embedded"` starts a Valkey in `server.data_dir`. Otherwise a `redis://`,'
            " `rediss://`, `valkey://`, `valkeys://` (with TLS) or `unix://` URL without a"
            " password, `redis://user@host:6379` for a user of ACL. It names one server, or a"
            " server or the endpoint of a cluster: the gateway asks which. Or"
            " `redis+sentinel://host:26379,host:26379/service` (`rediss+sentinel` with TLS), or"
            " `redis+cluster://host:6379,host:6379` (`rediss+cluster` with TLS), some servers of a"
            " cluster.",
        ),
    ] = "embedded"
    password_env: Annotated[
        EnvName | None, Meta(description="Environment variable that holds the password.")
    ] = None
    password_file: Annotated[Text | None, Meta(description="File that holds the password.")] = None
    sentinel_password_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the password of the Sentinels. Their user"
            " is `?sentinel_username=` in the URL."
        ),
    ] = None
    sentinel_password_file: Annotated[
        Text | None, Meta(description="File that holds the password of the Sentinels.")
    ] = None
    command_timeout_ms: Annotated[
        int,
        Meta(
            ge=1,
            le=60_000,
            description="Timeout per command. The call continues without Redis where it can.",
        ),
    ] = 50
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._:-]{0,64}\Z",
            description="Prefix of all keys and channels. Gateways with different prefixes can"
            " share a server.",
            extra={"allowed": "at most 64 letters, digits and . _ : -"},
        ),
    ] = "capio:"


class Sql(Section, frozen=True):
    """The durable store: accounts, keys, ledger and usage."""

    url: Annotated[
        Text,
        Meta(
            description='`"embedded"` is a SQLite file in `server.data_dir`. Otherwise a URL'
            " `postgresql://user@host/database` without a password; libpq options such as"
            " `?sslmode=require` are supported.",
        ),
    ] = "embedded"
    password_env: Annotated[
        EnvName | None, Meta(description="Environment variable that holds the password.")
    ] = None
    password_file: Annotated[Text | None, Meta(description="File that holds the password.")] = None
    pool_size: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Maximum database connections. A call uses one only for the first use of"
            " its key. While Redis is unavailable a worker opens one more.",
            extra={"unit": "connections per process"},
        ),
    ] = 4
    transaction_pooler: Annotated[
        bool,
        Meta(
            description="`sql.url` is that of a pooler in transaction mode, such as PgBouncer. No"
            " statement stays prepared beyond its transaction, so each takes one more round trip.",
        ),
    ] = False
    migrate: Annotated[
        bool,
        Meta(
            description="Bring the schema up to date at the start. If false, a start on PostgreSQL"
            " waits until `capio migrate` has done so, and the gateway's own user of the database"
            " needs no right to change tables.",
        ),
    ] = True
    ledger_rest_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=5000,
            description="Pause of the ledger writer after a batch, so that the next one is larger."
            " Usage and balances in SQL are up to this much older; limits and credit are not"
            " affected. 0: none.",
        ),
    ] = 200
    book_directly_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Usage that Redis has not accepted for this long is booked in SQL by the"
            " worker itself, and always when a worker ends.",
        ),
    ] = 5.0
    usage_retention_days: Annotated[
        int, Meta(ge=1, le=36_500, description="Age at which usage events are deleted.")
    ] = 90
