"""The section about traces."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta

from gateway.settings.types import EnvName, Section, Text

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([\x21-\x7e][\x20-\x7e]*)\Z")


class Telemetry(Section, frozen=True):
    """Traces: the W3C trace context of requests, and their export over OTLP."""

    send_trace_context: Annotated[
        bool,
        Meta(
            description="Send `traceparent` and the client's `tracestate` to upstreams. If false,"
            " upstreams get neither; log lines have the trace id in any case."
        ),
    ] = True
    otlp_endpoint: Annotated[
        Text | None,
        Meta(
            description="Base URL of an OpenTelemetry collector that accepts OTLP over HTTP as"
            " JSON, such as `http://127.0.0.1:4318`; `/v1/traces` is appended. Without it no spans"
            " are exported.",
        ),
    ] = None
    otlp_headers_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the headers of each export, such as a"
            " credential: `name=value`, several separated by commas, values percent-encoded.",
        ),
    ] = None
    otlp_headers_file: Annotated[
        Text | None, Meta(description="File that holds the headers of each export.")
    ] = None
    sample_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the traces that begin here whose spans are exported.",
        ),
    ] = 1.0
    follow_client_sampling: Annotated[
        bool,
        Meta(
            description="Export a call whose client sent a `traceparent` if, and only if, its"
            " sampled flag is set. If false, the ratio decides about all calls, so that clients"
            " cannot fill the collector.",
        ),
    ] = True


def read_otlp_headers(text: str) -> dict[str, str]:
    """
    Return the headers that `name=value,name=value` lists.

    Raises:
        ValueError: It is malformed; the message does not show it.
    """
    headers: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = _HEADER.match(unquote(part))
        if match is None:
            raise ValueError("is not a list of headers; use a form like name=value,name=value")
        headers[match[1].lower()] = match[2]
    return headers
