"""
Rules between settings, which the type of a single setting cannot express.

Settings may contain blanks ("" or an empty list) where an error was already reported.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from gateway.settings.errors import shown
from gateway.settings.kept.urls import REDIS_SCHEMES, check_store_url
from gateway.settings.schema import Mail, Redis, Server, Settings, Telemetry
from gateway.settings.upstreams.rules import (
    CapsCheck,
    check_models,
    check_providers,
    one_of,
    url_error,
)
from gateway.settings.urls import is_loopback, is_loopback_host


def check_rules(settings: Settings, check_caps: CapsCheck | None) -> Iterator[str]:
    """Yield one line for each conflict between settings that are valid by themselves."""
    yield from _check_listening(settings)
    yield from _check_intake(settings.server)
    yield from _check_stores(settings)
    if settings.money.renew_s * 3 > settings.money.lease_s:
        yield (
            f"money.renew_s: {settings.money.renew_s} must be at most a third of money.lease_s "
            f"({settings.money.lease_s})"
        )
    yield from _check_catalogue(settings)
    yield from check_providers(settings.providers, check_caps)
    yield from check_models(
        settings.models, settings.providers, settings.brand.model_prefix, check_caps
    )


def _check_catalogue(settings: Settings) -> Iterator[str]:
    if not settings.catalogue.sql_only:
        return
    if not settings.catalogue.sql:
        yield "catalogue.sql_only: requires catalogue.sql = true"
    for part in ("providers", "models"):
        if getattr(settings, part):
            yield (
                f"catalogue.sql_only: the file has [[{part}]] tables; remove them or set it to "
                "false"
            )


def _check_listening(settings: Settings) -> Iterator[str]:
    server = settings.server
    if server.port == settings.metrics.port:
        yield f"metrics.port: {server.port} is already used by server.port"
    yield from _check_direct_port(settings)
    yield from _check_networks(server.trusted_proxies, "server.trusted_proxies")
    yield from _check_console(settings)
    if (server.tls_cert_file is None) != (server.tls_key_file is None):
        present, absent = "tls_cert_file", "tls_key_file"
        if server.tls_cert_file is None:
            present, absent = absent, present
        yield f"server.{absent}: missing; required with server.{present}"
    yield from url_error("brand.public_url", settings.brand.public_url)
    yield from _check_telemetry(settings.telemetry)
    yield from one_of("admin", settings.admin.token_env, settings.admin.token_file, "token")


def _check_direct_port(settings: Settings) -> Iterator[str]:
    server, path = settings.server, "server.direct_port"
    if server.direct_port is None:
        return
    for section in ("server", "metrics", "console"):
        is_used = section != "console" or settings.runs_console
        if is_used and server.direct_port == getattr(settings, section).port:
            yield f"{path}: {server.direct_port} is already used by {section}.port"
    if server.tls_cert_file is not None:
        yield (
            f"{path}: {server.direct_port} would serve in clear text what server.tls_cert_file "
            "encrypts; remove one of them"
        )


def _check_console(settings: Settings) -> Iterator[str]:
    console = settings.console
    for section in ("server", "metrics"):
        port = getattr(settings, section).port
        if settings.runs_console and port == console.port:
            yield f"console.port: {port} is already used by {section}.port"
    yield from one_of("console", console.secret_env, console.secret_file, "secret")
    if console.oidc is not None:
        path, oidc = "console.oidc", console.oidc
        yield from one_of(path, oidc.client_secret_env, oidc.client_secret_file, "client_secret")
        url = yield from url_error(f"{path}.issuer", oidc.issuer)
        if url is not None and not url.tls and not is_loopback(oidc.issuer):
            yield f"{path}.issuer: {shown(oidc.issuer)} is not encrypted; use https://"
    if console.mail is not None:
        yield from _check_mail(console.mail)
    yield from _check_networks(console.trusted_proxies, "console.trusted_proxies")


def _check_networks(networks: list[str], path: str) -> Iterator[str]:
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield (
                f"{path}[{index}]: {shown(network)} is not an IP address or a "
                "network; use a form like 10.0.0.0/8, without bits outside of the mask"
            )


def _check_telemetry(telemetry: Telemetry) -> Iterator[str]:
    path, endpoint = "telemetry", telemetry.otlp_endpoint
    env, file = telemetry.otlp_headers_env, telemetry.otlp_headers_file
    yield from one_of(path, env, file, "otlp_headers")
    if endpoint is None:
        if env or file:
            yield (
                f"{path}.otlp_endpoint: missing; required with otlp_headers_env or "
                "otlp_headers_file"
            )
        return
    url = yield from url_error(f"{path}.otlp_endpoint", endpoint)
    if url is None:
        return
    if url.path.endswith("/v1/traces"):
        yield f"{path}.otlp_endpoint: {shown(endpoint)}: remove /v1/traces, which is appended"
    if (env or file) and not (url.tls or url.is_near):
        yield (
            f"{path}.otlp_endpoint: {shown(endpoint)} would send the headers in clear text; "
            "use https://, or a loopback or private host"
        )


def _check_mail(mail: Mail) -> Iterator[str]:
    path = "console.mail"
    yield from one_of(path, mail.password_env, mail.password_file, "password")
    if (mail.username is None) != (mail.password_env is None and mail.password_file is None):
        yield f"{path}.username: needs password_env or password_file, and they need it"
    if mail.security == "none" and not is_loopback_host(mail.host):
        yield (
            f'{path}.security: "none" is allowed for a server on this machine only; use "starttls"'
            ' or "tls"'
        )


def _check_intake(server: Server) -> Iterator[str]:
    for name, smaller in (
        ("max_buffered_bytes_per_account", "max_body_bytes"),
        ("max_buffered_bytes", "max_buffered_bytes_per_account"),
        ("idle_timeout_s", "header_timeout_s"),
    ):
        most, least = getattr(server, name), getattr(server, smaller)
        if most < least:
            yield f"server.{name}: {most} must be at least server.{smaller} ({least})"


def _check_stores(settings: Settings) -> Iterator[str]:
    for section, store, schemes in (
        ("redis", settings.redis, REDIS_SCHEMES),
        ("sql", settings.sql, ("postgresql", "postgres")),
    ):
        try:
            check_store_url(store.url, schemes)
        except ValueError as failure:
            yield f"{section}.url: {shown(store.url)} {failure}"
        yield from one_of(section, store.password_env, store.password_file, "password")
        if store.url == "embedded" and (store.password_env or store.password_file):
            yield (
                f"{section}.url: {shown(store.url)} takes no password; "
                "remove it, or give the URL of a server"
            )
    if settings.sql.transaction_pooler and settings.sql.url == "embedded":
        yield "sql.transaction_pooler: the embedded database has no pooler; remove this setting"
    if not settings.server.ledger_writer and "embedded" in (settings.redis.url, settings.sql.url):
        yield (
            "server.ledger_writer: false requires external Redis and SQL servers; "
            "set redis.url and sql.url, or remove it"
        )
    yield from _check_sentinels(settings.redis)


def _check_sentinels(redis: Redis) -> Iterator[str]:
    env, file = redis.sentinel_password_env, redis.sentinel_password_file
    yield from one_of("redis", env, file, "sentinel_password")
    if (env or file) and "+sentinel://" not in redis.url:
        yield (
            f"redis.sentinel_password_{'env' if env else 'file'}: redis.url has no Sentinels; "
            "remove it, or use redis+sentinel://"
        )
