"""
Rules between settings, which the type of a single setting cannot express.

Settings may contain blanks ("" or an empty list) where an error was already reported.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Generator, Iterator, Mapping

from gateway.settings.errors import NOT_SHOWN, did_you_mean, join, shown
from gateway.settings.kept.urls import REDIS_SCHEMES, check_store_url
from gateway.settings.schema import (
    Deployment,
    Mail,
    Model,
    Prices,
    Provider,
    Redis,
    Server,
    Settings,
    Telemetry,
    WireEndpoint,
)
from gateway.settings.urls import HttpUrl, is_loopback, split_http_url

CapsCheck = Callable[[str, Mapping[str, object]], object]
"""Takes a dialect and overrides; raises ValueError naming the capability and what is allowed."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?\Z")
_TIER_NAME = re.compile(r"[a-z0-9_-]{1,32}\Z")
_OWN_HEADERS = frozenset(
    {
        *("host", "content-length", "content-type", "accept", "accept-encoding", "cookie"),
        *("traceparent", "tracestate"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
    }
)
_CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "proxy-authorization"})
_ENDPOINT_PATHS = ("/chat/completions", "/v1/messages", "/embeddings", "/responses")


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
    yield from _check_providers(settings.providers, check_caps)
    yield from _check_models(settings, check_caps)


def _check_listening(settings: Settings) -> Iterator[str]:
    server = settings.server
    if server.port == settings.metrics.port:
        yield f"metrics.port: {server.port} is already used by server.port"
    yield from _check_networks(server.trusted_proxies, "server.trusted_proxies")
    yield from _check_console(settings)
    if (server.tls_cert_file is None) != (server.tls_key_file is None):
        present, absent = "tls_cert_file", "tls_key_file"
        if server.tls_cert_file is None:
            present, absent = absent, present
        yield f"server.{absent}: missing; required with server.{present}"
    yield from _url_error("brand.public_url", settings.brand.public_url)
    yield from _check_telemetry(settings.telemetry)
    yield from _one_of("admin", settings.admin.token_env, settings.admin.token_file, "token")


def _check_console(settings: Settings) -> Iterator[str]:
    console = settings.console
    for section in ("server", "metrics"):
        port = getattr(settings, section).port
        if settings.runs_console and port == console.port:
            yield f"console.port: {port} is already used by {section}.port"
    yield from _one_of("console", console.secret_env, console.secret_file, "secret")
    if console.oidc is not None:
        path, oidc = "console.oidc", console.oidc
        yield from _one_of(path, oidc.client_secret_env, oidc.client_secret_file, "client_secret")
        url = yield from _url_error(f"{path}.issuer", oidc.issuer)
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
    yield from _one_of(path, env, file, "otlp_headers")
    if endpoint is None:
        if env or file:
            yield (
                f"{path}.otlp_endpoint: missing; required with otlp_headers_env or "
                "otlp_headers_file"
            )
        return
    url = yield from _url_error(f"{path}.otlp_endpoint", endpoint)
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
    yield from _one_of(path, mail.password_env, mail.password_file, "password")
    if (mail.username is None) != (mail.password_env is None and mail.password_file is None):
        yield f"{path}.username: needs password_env or password_file, and they need it"
    if mail.security == "none" and not is_loopback(f"http://{mail.host}"):
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
        yield from _one_of(section, store.password_env, store.password_file, "password")
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
    yield from _one_of("redis", env, file, "sentinel_password")
    if (env or file) and "+sentinel://" not in redis.url:
        yield (
            f"redis.sentinel_password_{'env' if env else 'file'}: redis.url has no Sentinels; "
            "remove it, or use redis+sentinel://"
        )


def _check_providers(providers: list[Provider], check_caps: CapsCheck | None) -> Iterator[str]:
    first: dict[str, str] = {}
    for index, provider in enumerate(providers):
        path = f"providers[{index}]"
        yield from _taken(first, provider.name, f"{path}.name")
        yield from _check_provider(provider, path)
        yield from _check_headers(provider.headers, f"{path}.headers")
        yield from _check_caps(check_caps, provider, provider.caps, f"{path}.caps")


def _check_provider(provider: Provider, path: str) -> Iterator[str]:
    if provider.openai is None and provider.anthropic is None:
        yield f"{path}: no wire; add an openai or anthropic table with a base_url"
    if provider.openai is not None:
        yield from _check_wire(provider.openai, f"{path}.openai")
        if not provider.openai.count_tokens:
            yield f"{path}.openai.count_tokens: applies to the anthropic wire only; remove it"
    if provider.anthropic is not None:
        yield from _check_wire(provider.anthropic, f"{path}.anthropic")
        if provider.anthropic.base_url.rstrip("/").endswith("/v1"):
            base_url = shown(provider.anthropic.base_url)
            yield (
                f"{path}.anthropic.base_url: {base_url} ends with /v1; "
                "remove it, because /v1/messages is appended"
            )
    yield from _one_of(path, provider.api_key_env, provider.api_key_file, "api_key")
    yield from _check_credentials(provider, path)
    if provider.proxy is not None:
        yield from _url_error(f"{path}.proxy", provider.proxy)
        if provider.transport != "httpx2":
            yield f'{path}.proxy: {shown(provider.proxy)} requires transport = "httpx2"'


def _check_credentials(provider: Provider, path: str) -> Iterator[str]:
    if provider.api_keys and (provider.api_key_env or provider.api_key_file):
        yield f"{path}.api_keys: cannot be combined with api_key_env or api_key_file; list all here"
    for index, credential in enumerate(provider.api_keys):
        if (credential.env is None) == (credential.file is None):
            yield f"{path}.api_keys[{index}]: give either env or file"


def _check_wire(wire: WireEndpoint, path: str) -> Iterator[str]:
    url = yield from _url_error(f"{path}.base_url", wire.base_url)
    if url is None:
        return
    if url.path.endswith(_ENDPOINT_PATHS):
        yield (
            f"{path}.base_url: {shown(wire.base_url)} names an endpoint; "
            "give the base URL, because the endpoint's path is appended"
        )
    if not (url.tls or url.is_near or wire.allow_http):
        yield (
            f"{path}.base_url: {shown(wire.base_url)} would send the credential in clear text; "
            "use https://, a loopback or private host, or allow_http = true"
        )


def _check_headers(headers: Mapping[str, str], path: str) -> Iterator[str]:
    first: dict[str, str] = {}
    for name, value in headers.items():
        where = join(path, name)
        yield from _taken(first, name.lower(), where)
        if not _HEADER_NAME.match(name):
            yield f"{where}: {shown(name)} is not a header name"
        elif name.lower() in _CREDENTIAL_HEADERS:
            yield f"{where}: {NOT_SHOWN} is a credential; use api_key_env or api_key_file"
        elif name.lower() in _OWN_HEADERS:
            yield f"{where}: set by the gateway itself; remove it"
        elif not _HEADER_VALUE.match(value):
            yield f"{where}: {NOT_SHOWN} is not a header value; use visible ASCII characters"


def _check_caps(
    check: CapsCheck | None, provider: Provider, caps: Mapping[str, object], path: str
) -> Iterator[str]:
    if check is None:
        return
    for name, value in caps.items():
        try:
            check(provider.dialect, {name: value})
        except ValueError as failure:
            yield f"{join(path, name)}: {shown(value)}: {failure}"


def _check_models(settings: Settings, check_caps: CapsCheck | None) -> Iterator[str]:
    providers = {provider.name: provider for provider in settings.providers if provider.name}
    first: dict[str, str] = {}
    for index, model in enumerate(settings.models):
        path = f"models[{index}]"
        yield from _check_names(model, path, settings.brand.model_prefix, first)
        if model.max_output > model.context:
            yield f"{path}.max_output: {model.max_output} exceeds the context ({model.context})"
        yield from _check_tiers(model.prices, f"{path}.prices")
        yield from _check_fallbacks(model, path, settings.models)
        if model.hedge is not None and len(model.deployments) == 1:
            yield f"{path}.hedge: the model has one deployment; add another or remove hedge"
        labels: dict[str, str] = {}
        for number, deployment in enumerate(model.deployments):
            where = f"{path}.deployments[{number}]"
            if deployment.provider and deployment.model:
                label = f"{deployment.provider}/{deployment.model}"
                yield from _taken(labels, label, where)
            yield from _check_deployment(deployment, where, providers, check_caps)
            if deployment.cost is not None:
                yield from _check_tiers(deployment.cost, f"{where}.cost")


def _check_fallbacks(model: Model, path: str, models: list[Model]) -> Iterator[str]:
    names = [each.name for each in models]
    for index, name in enumerate(model.fallbacks):
        where = f"{path}.fallbacks[{index}]"
        if name == model.name:
            yield f"{where}: {shown(name)} is the model itself; remove it"
        elif name and name not in names:
            hint = did_you_mean(name, names)
            yield f"{where}: {shown(name)} is not the name of a model; define it or remove it{hint}"


def _check_tiers(prices: Prices, path: str) -> Iterator[str]:
    for name in prices.tiers:
        if not _TIER_NAME.match(name):
            yield (
                f"{path}.tiers: {shown(name)} is not the name of a tier; "
                "use at most 32 lower-case letters, digits and _ -"
            )


def _check_names(model: Model, path: str, prefix: str, first: dict[str, str]) -> Iterator[str]:
    names = [(f"{path}.name", model.name)]
    names += [(f"{path}.aliases[{i}]", alias) for i, alias in enumerate(model.aliases)]
    for where, name in names:
        yield from _taken(first, name, where)
        if prefix and name.startswith(prefix):
            yield (
                f"{where}: {shown(name)} starts with brand.model_prefix, which is removed "
                "before the lookup; remove it here"
            )


def _check_deployment(
    deployment: Deployment,
    path: str,
    providers: Mapping[str, Provider],
    check_caps: CapsCheck | None,
) -> Iterator[str]:
    if not deployment.provider:
        return
    provider = providers.get(deployment.provider)
    if provider is None:
        known = ", ".join(providers) or "none"
        hint = did_you_mean(deployment.provider, providers)
        yield (
            f"{path}.provider: {shown(deployment.provider)} is not a provider; known: {known}{hint}"
        )
        return
    spoken = [wire for wire in ("openai", "anthropic") if getattr(provider, wire) is not None]
    seen: dict[str, str] = {}
    for index, wire in enumerate(deployment.wires or ()):
        where = f"{path}.wires[{index}]"
        yield from _taken(seen, wire, where)
        if spoken and wire not in spoken:
            yield (
                f"{where}: {shown(wire)} is not a wire of provider {provider.name}; "
                f"it has {', '.join(spoken)}"
            )
    yield from _check_caps(check_caps, provider, deployment.caps, f"{path}.caps")


def _taken(first: dict[str, str], name: str, path: str) -> Iterator[str]:
    """Report the second use of a name; `first` maps names to their first use."""
    if name in first:
        yield f"{path}: {shown(name)} is already used by {first[name]}"
    elif name:
        first[name] = path


def _one_of(path: str, env: object, file: object, what: str) -> Iterator[str]:
    if env is not None and file is not None:
        yield (f"{path}.{what}_file: {shown(file)} cannot be combined with {what}_env")


def _url_error(path: str, url: str) -> Generator[str, None, HttpUrl | None]:
    """Return the URL's parts, or None after reporting an error."""
    if not url:
        return None
    try:
        return split_http_url(url)
    except ValueError as failure:
        yield f"{path}: {shown(url)} {failure}"
        return None
