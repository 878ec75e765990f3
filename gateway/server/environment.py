"""The environment of helper processes: what each needs, without the secrets of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.settings import Settings

_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("PROMETHEUS_MULTIPROC_DIR", "CAPIO_POD"),
    }
)
_PASSED_PREFIXES = ("LC_", "PYTHON", "MALLOC_")
_POSTGRES_PREFIX = "PG"
"""Variables of libpq that asyncpg reads: PGPASSFILE, PGSSLROOTCERT, PGPASSWORD."""


def helper_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that uses neither stores nor providers."""
    secret = set(_secret_names(settings))
    return {
        name: value
        for name, value in environ.items()
        if name not in secret and (name in _PASSED or name.startswith(_PASSED_PREFIXES))
    }


def ledger_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ledger process, which also uses SQL and Redis."""
    redis, sql = settings.redis, settings.sql
    stores = {redis.password_env, redis.sentinel_password_env, sql.password_env}
    others = set(_secret_names(settings)) - stores
    return helper_environment(settings, environ) | {
        name: value
        for name, value in environ.items()
        if name in stores or (name.startswith(_POSTGRES_PREFIX) and name not in others)
    }


def traces_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the trace exporter: also the headers for the collector."""
    name = settings.telemetry.otlp_headers_env
    own = {name: environ[name]} if name is not None and name in environ else {}
    return helper_environment(settings, environ) | own


def console_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the console: also its own secret and the operators' token."""
    oidc = settings.console.oidc
    names = {settings.console.secret_env, settings.admin.token_env}
    names.add(None if oidc is None else oidc.client_secret_env)
    mail = settings.console.mail
    names.add(None if mail is None else mail.password_env)
    own = {name: value for name, value in environ.items() if name in names}
    return ledger_environment(settings, environ) | own


def _secret_names(settings: Settings) -> Iterator[str]:
    named = [
        settings.redis.password_env,
        settings.redis.sentinel_password_env,
        settings.sql.password_env,
        settings.admin.token_env,
        settings.console.secret_env,
        settings.telemetry.otlp_headers_env,
        None if settings.console.oidc is None else settings.console.oidc.client_secret_env,
        None if settings.console.mail is None else settings.console.mail.password_env,
        *(provider.api_key_env for provider in settings.providers),
    ]
    return (name for name in named if name is not None)
