"""Checks each provider with each credential by a request for its models, which is free."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2
import msgspec

from gateway.cli.diagnosis.findings import Finding, clock, error, ok, warning
from gateway.core.catalogue import build
from gateway.core.model import Provider, Wire, WireRoute
from gateway.protocols.codec.json_decode import decode_or_none
from gateway.settings import Settings
from gateway.settings.urls import host_and_port

_TIMEOUT_S = 10.0
_LARGEST_BODY = 4 * 1024 * 1024
_EXPIRES_SOON_S = 14 * 86400.0
_PATHS = {Wire.OPENAI: "/models", Wire.ANTHROPIC: "/v1/models?limit=1000"}
_VERSION = ("anthropic-version", "2023-06-01")
_NO_LIST = (404, 405, 501)
_REFUSED = (401, 403)
_SUCCESS = 200
_SERVER_ERROR = 500


class _Listed(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Listed]


_MODELS: Final = msgspec.json.Decoder(_Models)


async def check_providers(
    settings: Settings,
    credentials: Mapping[str, tuple[str, ...]],
    skipped: Collection[str] = (),
) -> list[Finding]:
    """Check all providers but those in `skipped` concurrently; return the findings."""
    catalogue = build(settings, credentials)
    names: dict[str, set[str]] = {}
    for model in settings.models:
        for deployment in model.deployments:
            names.setdefault(deployment.provider, set()).add(deployment.model)
    checks = [
        _check_wire(provider, wire, route, names.get(provider.name, set()))
        for provider in catalogue.providers
        if provider.name not in skipped
        for wire, route in provider.wires.items()
    ]
    return [finding for found in await asyncio.gather(*checks) for finding in found]


async def _check_wire(
    provider: Provider, wire: Wire, route: WireRoute, models: set[str]
) -> list[Finding]:
    subject = f"provider {provider.name} ({wire.value})"
    every = (route.headers, *route.alternatives)
    found: list[Finding] = []
    async with httpx2.AsyncClient(
        proxy=route.origin.proxy, timeout=_TIMEOUT_S, trust_env=False
    ) as client:
        for number, headers in enumerate(every, start=1):
            numbered = subject if len(every) == 1 else f"{subject}, credential {number}"
            try:
                found += await _probe(client, numbered, wire, route, headers, models)
            except (httpx2.HTTPError, OSError) as failure:
                found.append(_unreachable(numbered, route, failure))
                break
    return found


async def _probe(
    client: httpx2.AsyncClient,
    subject: str,
    wire: Wire,
    route: WireRoute,
    headers: tuple[tuple[bytes, bytes], ...],
    models: set[str],
) -> list[Finding]:
    origin = route.origin
    address = host_and_port(origin.host, origin.port)
    scheme = "https" if origin.tls else "http"
    url = f"{scheme}://{address}{route.base_path}{_PATHS[wire]}"
    sent = [(name.decode(), value.decode()) for name, value in headers]
    if wire is Wire.ANTHROPIC:
        sent.append(_VERSION)
    before, started = time.time(), time.perf_counter()
    async with client.stream("GET", url, headers=sent) as response:
        taken = (time.perf_counter() - started) * 1000
        found = [*_judge_certificate(subject, response)]
        body = b""
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > _LARGEST_BODY:
                break
    found += _judge_clock(subject, response.headers.get("date"), before)
    has_credential = any(name in (b"authorization", b"x-api-key") for name, _ in headers)
    return [
        *_judge_status(subject, response.status_code, taken, has_credential, body, models),
        *found,
    ]


def _judge_status(
    subject: str, status: int, taken: float, has_credential: bool, body: bytes, models: set[str]
) -> Iterator[Finding]:
    reached = f"reached in {taken:.0f} ms"
    if status in _REFUSED:
        what = "the credential is refused" if has_credential else "it requires a credential"
        remedy = "check api_key_env, api_key_file or api_keys"
        yield error(subject, f"{what} (HTTP {status})", remedy)
    elif status in _NO_LIST:
        detail = f"no list of models (HTTP {status}), so the credential is not checked"
        yield ok(subject, f"{reached}; {detail}")
    elif status >= _SERVER_ERROR:
        yield warning(subject, f"it fails (HTTP {status})", "see the provider's status page")
    elif status != _SUCCESS:
        detail = f"it refuses the list of models (HTTP {status})"
        yield warning(subject, detail, "check the base_url and the account")
    else:
        accepted = "the credential is accepted" if has_credential else "no credential is sent"
        yield ok(subject, f"{reached}; {accepted}")
        yield from _judge_models(subject, body, models)


def _judge_models(subject: str, body: bytes, models: set[str]) -> Iterator[Finding]:
    found = decode_or_none(body, _MODELS)
    if found is None:
        return
    listed = {each.id for each in found.data}
    missing = sorted(models - listed) if listed else []
    if missing:
        remedy = "check the deployments' `model`; aliases may be missing in the list"
        yield warning(subject, f"its list of models lacks {', '.join(missing)}", remedy)


def _judge_certificate(subject: str, response: httpx2.Response) -> Iterator[Finding]:
    stream = response.extensions.get("network_stream")
    tls = None if stream is None else stream.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if isinstance(tls, ssl.SSLObject) else None
    if not certificate or not isinstance(certificate.get("notAfter"), str):
        return
    left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    if left < _EXPIRES_SOON_S:
        detail = f"its TLS certificate expires in {left / 86400:.0f} days"
        yield warning(subject, detail, "the provider has to renew it")


def _judge_clock(subject: str, date: str | None, before: float) -> Iterator[Finding]:
    if date is None:
        return
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    # The header has whole seconds.
    finding = clock(subject, theirs + 0.5, before - 1, time.time() + 1)
    if finding.remedy is not None:
        yield finding


def _unreachable(subject: str, route: WireRoute, failure: Exception) -> Finding:
    reason = str(failure) or type(failure).__name__
    return error(
        subject,
        f"no response from {route.label}: {reason}",
        "check base_url, proxy, DNS, firewall and TLS",
    )
