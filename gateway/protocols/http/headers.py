"""
Builds the headers of upstream requests and of client responses.

Both directions use allow-lists; other headers are not copied. A client's credential, addresses and
SDK telemetry never reach an upstream; an upstream's account limits, cookies and server names never
reach a client. All names are in lower case, as the HTTP parsers on both sides return them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.core.model import Model, Wire
from gateway.protocols.http.retry_after import RETRY_AFTER, retry_headers

Header = tuple[bytes, bytes]

ANTHROPIC_VERSION: Final = b"2023-06-01"
"""Sent if the client sends none, and in translated requests."""

# Exact names, no prefixes: headers such as `anthropic-organization-id` select an account.
_COPIED: Final[dict[Wire, frozenset[bytes]]] = {
    Wire.OPENAI: frozenset({b"accept", b"openai-beta"}),
    Wire.ANTHROPIC: frozenset({b"accept", b"anthropic-version", b"anthropic-beta"}),
}
_READ: Final = {wire: names | {b"connection"} for wire, names in _COPIED.items()}
# The gateway sets the type itself: an upstream's `text/html` would be rendered by a browser.
_JSON_RESPONSE: Final = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_SSE_RESPONSE: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
)
_JSON: Final = (b"content-type", b"application/json")
_ACCEPT_JSON: Final = (b"accept", b"application/json")
_VERSION: Final = (b"anthropic-version", ANTHROPIC_VERSION)
_NOTED: Final = frozenset({b"content-length", b"content-encoding", b"request-id", b"x-request-id"})
_ACCEPT_SSE: Final = (b"accept", b"text/event-stream")


def copied_headers(wire: Wire, client: Iterable[Header]) -> tuple[Header, ...]:
    """Return the client's headers on which `upstream_headers` depends."""
    names = _READ[wire]
    return tuple([header for header in client if header[0] in names])


def upstream_headers(
    wire: Wire, client: Iterable[Header], route: Sequence[Header]
) -> tuple[Header, ...]:
    """
    Return the headers of a relayed request, complete except for content-length.

    The route's headers override the client's, except `anthropic-beta`, of which both are sent. The
    content type is always JSON: with another one, an upstream might parse the body differently
    from the gateway.

    Args:
        wire: The dialect on both sides.
        client: Headers of the client, at least those of `copied_headers`.
        route: Headers of the route: host, credential, user-agent, accept-encoding, the provider's.
    """
    headers = [_JSON, *_copied(wire, client, route)]
    present = {name for name, _ in headers}
    present.update(name for name, _ in route)
    if wire is Wire.ANTHROPIC and b"anthropic-version" not in present:
        headers.append(_VERSION)
    headers.extend(route)
    return tuple(headers)


def mapped_betas(
    headers: Iterable[Header], betas: Mapping[bytes, bytes | None]
) -> tuple[Header, ...]:
    """
    Return request headers with the names in `anthropic-beta` kept, dropped or replaced.

    Args:
        headers: From `upstream_headers`.
        betas: Name -> replacement, or None to drop it; `*` applies to all others.
    """
    mapped: list[Header] = []
    for name, value in headers:
        if name != b"anthropic-beta":
            mapped.append((name, value))
            continue
        kept: list[bytes] = []
        for beta in map(bytes.strip, value.split(b",")):
            mapped_to = (
                betas[beta] if beta in betas else beta if betas.get(b"*", b"") is not None else None
            )
            if mapped_to and mapped_to not in kept:
                kept.append(mapped_to)
        if kept:
            mapped.append((name, b",".join(kept)))
    return tuple(mapped)


def translated_headers(wire: Wire, route: Sequence[Header], *, stream: bool) -> tuple[Header, ...]:
    """
    Return the headers of a translated request, except content-length; none is the client's.

    Args:
        wire: The upstream's dialect.
        route: Headers of the route, which override those set here.
        stream: Whether a stream is requested.
    """
    headers = [_JSON, _ACCEPT_SSE if stream else _ACCEPT_JSON]
    if wire is Wire.ANTHROPIC:
        headers.append(_VERSION)
    own = {name for name, _ in route}
    return (*(header for header in headers if header[0] not in own), *route)


def client_headers(
    upstream: Sequence[Header],
    request_id: str,
    *,
    stream: bool,
    unchanged: bool = True,
    error: bool = False,
) -> list[Header]:
    """
    Return the client's headers for an upstream's response.

    Args:
        upstream: Headers of the upstream.
        request_id: The gateway's id of this call.
        stream: The response is an event stream.
        unchanged: The body is relayed unchanged, so its content-length is valid.
        error: The response is an error, whose retry advice is kept.
    """
    headers: list[Header] = [*(_SSE_RESPONSE if stream else _JSON_RESPONSE)]
    found: dict[bytes, bytes] = {}
    advised = False
    for header in upstream:
        name = header[0]
        if name in _NOTED:
            found[name] = header[1]
        elif name in RETRY_AFTER:
            advised = True
        elif error and name == b"x-should-retry":
            headers.append(header)
    if advised:
        headers.extend(retry_headers(upstream))
    if not stream and unchanged and b"content-length" in found and not is_encoded(found):
        headers.append((b"content-length", found[b"content-length"]))
    own_id = request_id.encode("latin-1")
    headers.append((b"request-id", own_id))
    headers.append((b"x-request-id", own_id))
    if upstream_id := found.get(b"request-id") or found.get(b"x-request-id"):
        headers.append((b"x-upstream-request-id", upstream_id))
    return headers


def served_by(model: Model | None, provider: str | None, attempts: int) -> list[Header]:
    """Return the headers that tell clients what served a call; None: that header is omitted."""
    headers = [(b"x-capio-attempts", b"%d" % attempts)]
    if model is not None:
        headers.append((b"x-capio-model", model.name.encode()))
    if provider is not None:
        headers.append((b"x-capio-provider", provider.encode()))
    return headers


def json_head(body: bytes, request_id: str | None) -> list[Header]:
    """Return the headers of a JSON response: type, length, and the request id in both spellings."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if request_id is not None:
        encoded = request_id.encode()
        headers += [(b"request-id", encoded), (b"x-request-id", encoded)]
    return headers


def is_encoded(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a body is compressed; some upstreams ignore `accept-encoding: identity`."""
    return headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b"")


def _copied(wire: Wire, client: Iterable[Header], route: Sequence[Header]) -> list[Header]:
    allowed = _COPIED[wire]
    refused = {name for name, _ in route}
    refused.discard(b"anthropic-beta")
    headers = [header for header in client if header[0] in allowed or header[0] == b"connection"]
    for name, value in headers:
        if name == b"connection":
            refused.update(token.strip().lower() for token in value.split(b","))
            refused.add(name)
    return [header for header in headers if header[0] not in refused]
