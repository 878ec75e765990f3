"""
The heads of upstream requests, each rendered once.

Nearly all clients of a deployment send the same few headers that are relayed, so that a request
finds its head by them.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.model import Model, Wire
from gateway.core.routing.plan import Candidate
from gateway.ports import Headers
from gateway.protocols.http.headers import (
    Header,
    copied_headers,
    mapped_betas,
    translated_headers,
    upstream_headers,
)
from gateway.protocols.http.request.priced_features import permitted_betas
from gateway.upstream.http1.head import start_request_head

MOST_HEADS = 256
MOST_COPIED_BYTES = 512
"""Heads with more bytes of a client are not kept: clients choose them freely."""

_Key = tuple[int, Wire, int, str, tuple[Header, ...] | bool]


class RequestHead(NamedTuple):
    """The head of an upstream request, complete except for content-length."""

    headers: tuple[Header, ...]
    rendered: bytes
    """See `ports.UpstreamRequest.head`; empty if HTTP/1.1 does not permit the head."""
    dropped: tuple[str, ...] = ()
    """Features of the client's `anthropic-beta` that the provider does not allow."""


class RequestHeads:
    """The heads of one catalogue's requests; its deployments must outlive this object."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[_Key, RequestHead] = {}

    def relayed(
        self, candidate: Candidate, model: Model, path: str, client: Headers
    ) -> RequestHead:
        """
        Return the head of a relayed request.

        Args:
            candidate: Where it is sent.
            model: The public model, which has the candidate's deployment.
            path: Of the request.
            client: The client's headers.
        """
        deployment, wire, credential = candidate
        copied = copied_headers(wire, client)
        key = id(deployment), wire, credential, path, copied
        known = self._known.get(key)
        if known is None:
            known = _relayed(candidate, model, path, copied)
            if sum(len(value) for _, value in copied) <= MOST_COPIED_BYTES:
                self._keep(key, known)
        return known

    def translated(self, candidate: Candidate, path: str, *, stream: bool) -> RequestHead:
        """Return the head of a translated request, which has no header of the client."""
        deployment, wire, credential = candidate
        key = id(deployment), wire, credential, path, stream
        known = self._known.get(key)
        if known is None:
            headers = translated_headers(wire, candidate.headers, stream=stream)
            known = RequestHead(headers, _rendered(path, headers))
            self._keep(key, known)
        return known

    def _keep(self, key: _Key, head: RequestHead) -> None:
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        self._known[key] = head


def _relayed(
    candidate: Candidate, model: Model, path: str, copied: tuple[Header, ...]
) -> RequestHead:
    provider = candidate.deployment.provider
    headers = upstream_headers(candidate.wire, copied, candidate.headers)
    dropped: tuple[str, ...] = ()
    if candidate.wire is Wire.ANTHROPIC:
        allowed = provider.allow_features
        if model.prices.long_context is not None:
            allowed |= {"long_context"}
        headers, dropped = permitted_betas(headers, allowed, provider.betas)
    if provider.betas:
        headers = mapped_betas(headers, provider.betas)
    return RequestHead(headers, _rendered(path, headers), dropped)


def _rendered(path: str, headers: tuple[Header, ...]) -> bytes:
    try:
        return start_request_head("POST", path, headers)
    except ValueError:
        return b""  # the connection refuses it, as it does any other invalid head
