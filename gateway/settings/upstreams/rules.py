"""
Rules for providers and models, which the type of a single setting cannot express.

They apply to the file and to entries in SQL. Settings may contain blanks ("" or an empty list)
where an error was already reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping

from gateway.settings.errors import NOT_SHOWN, did_you_mean, join, shown
from gateway.settings.upstreams.models import Deployment, Model, Prices
from gateway.settings.upstreams.providers import Provider, WireEndpoint
from gateway.settings.urls import HttpUrl, split_http_url

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


def check_providers(providers: list[Provider], check_caps: CapsCheck | None) -> Iterator[str]:
    """Yield one line for each error of the file's providers."""
    first: dict[str, str] = {}
    for index, provider in enumerate(providers):
        path = f"providers[{index}]"
        yield from taken(first, provider.name, f"{path}.name")
        yield from check_provider(provider, path, check_caps)


def check_provider(provider: Provider, path: str, check_caps: CapsCheck | None) -> Iterator[str]:
    """Yield one line for each error of a provider by itself."""
    yield from _check_access(provider, path)
    yield from _check_headers(provider.headers, f"{path}.headers")
    yield from _check_caps(check_caps, provider, provider.caps, f"{path}.caps")


def _check_access(provider: Provider, path: str) -> Iterator[str]:
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
    yield from one_of(path, provider.api_key_env, provider.api_key_file, "api_key")
    yield from _check_credentials(provider, path)
    if provider.proxy is not None:
        yield from url_error(f"{path}.proxy", provider.proxy)
        if provider.transport != "httpx2":
            yield f'{path}.proxy: {shown(provider.proxy)} requires transport = "httpx2"'


def _check_credentials(provider: Provider, path: str) -> Iterator[str]:
    if provider.api_keys and (provider.api_key_env or provider.api_key_file):
        yield f"{path}.api_keys: cannot be combined with api_key_env or api_key_file; list all here"
    for index, credential in enumerate(provider.api_keys):
        if (credential.env is None) == (credential.file is None):
            yield f"{path}.api_keys[{index}]: give either env or file"


def _check_wire(wire: WireEndpoint, path: str) -> Iterator[str]:
    url = yield from url_error(f"{path}.base_url", wire.base_url)
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
        yield from taken(first, name.lower(), where)
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


def check_models(
    models: list[Model],
    providers: list[Provider],
    prefix: str,
    check_caps: CapsCheck | None,
) -> Iterator[str]:
    """Yield one line for each error of the file's models; `prefix` is `brand.model_prefix`."""
    by_name = {provider.name: provider for provider in providers if provider.name}
    names = [model.name for model in models]
    first: dict[str, str] = {}
    for index, model in enumerate(models):
        path = f"models[{index}]"
        yield from check_model(model, path, by_name, prefix, first, check_caps)
        yield from check_fallbacks(model, path, names)


def check_model(
    model: Model,
    path: str,
    providers: Mapping[str, Provider],
    prefix: str,
    first: dict[str, str],
    check_caps: CapsCheck | None,
) -> Iterator[str]:
    """
    Yield one line for each error of a model, except of its fallbacks.

    Args:
        model: The model.
        path: Its key path.
        providers: All, by name.
        prefix: `brand.model_prefix`.
        first: The names that are taken, and by what; the model's are added.
        check_caps: Checks overrides of a dialect's capabilities.
    """
    yield from _check_names(model, path, prefix, first)
    if model.max_output > model.context:
        yield f"{path}.max_output: {model.max_output} exceeds the context ({model.context})"
    yield from _check_tiers(model.prices, f"{path}.prices")
    if model.hedge is not None and len(model.deployments) == 1:
        yield f"{path}.hedge: the model has one deployment; add another or remove hedge"
    labels: dict[str, str] = {}
    for number, deployment in enumerate(model.deployments):
        where = f"{path}.deployments[{number}]"
        if deployment.provider and deployment.model:
            label = f"{deployment.provider}/{deployment.model}"
            yield from taken(labels, label, where)
        yield from _check_deployment(deployment, where, providers, check_caps)
        if deployment.cost is not None:
            yield from _check_tiers(deployment.cost, f"{where}.cost")


def check_fallbacks(model: Model, path: str, names: Collection[str]) -> Iterator[str]:
    """Yield one line for each fallback that is not among the `names` of models."""
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
        yield from taken(first, name, where)
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
        yield from taken(seen, wire, where)
        if spoken and wire not in spoken:
            yield (
                f"{where}: {shown(wire)} is not a wire of provider {provider.name}; "
                f"it has {', '.join(spoken)}"
            )
    yield from _check_caps(check_caps, provider, deployment.caps, f"{path}.caps")


def taken(first: dict[str, str], name: str, path: str) -> Iterator[str]:
    """Report the second use of a name; `first` maps names to their first use."""
    if name in first:
        yield f"{path}: {shown(name)} is already used by {first[name]}"
    elif name:
        first[name] = path


def one_of(path: str, env: object, file: object, what: str) -> Iterator[str]:
    """Report a secret that has both a variable and a file."""
    if env is not None and file is not None:
        yield (f"{path}.{what}_file: {shown(file)} cannot be combined with {what}_env")


def url_error(path: str, url: str) -> Generator[str, None, HttpUrl | None]:
    """Return the URL's parts, or None after reporting an error."""
    if not url:
        return None
    try:
        return split_http_url(url)
    except ValueError as failure:
        yield f"{path}: {shown(url)} {failure}"
        return None
