"""The gateway's own credential in what an upstream says."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote

import pytest

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.errors.credential_mask import CredentialMask
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
)

KEY = b'sk-ant+/="5f3a\\Xy'
FORMS = {
    "plain": KEY,
    "json": json.dumps(KEY.decode())[1:-1].encode(),
    "json with escaped slashes": json.dumps(KEY.decode())[1:-1].replace("/", "\\/").encode(),
    "percent": quote(KEY, safe="").encode(),
    "base64": b64encode(KEY),
    "base64 of the header": b64encode(b"Bearer " + KEY),
    "base64url without padding": urlsafe_b64encode(KEY).rstrip(b"="),
}
ROUTES = [[(b"authorization", b"Bearer " + KEY)], [(b"host", b"h"), (b"x-api-key", KEY)]]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("form", FORMS)
def test_credential_is_replaced_in_every_form(form: str, route: list[tuple[bytes, bytes]]) -> None:
    """Also twice in a text, and next to other letters."""
    found = FORMS[form]
    text = b'{"error":"a' + found + b"b " + found + b'"}'

    cleaned = CredentialMask(route).clean(text)

    assert found not in cleaned
    assert cleaned.startswith(b'{"error":"a[redacted]b [redacted]')


def test_text_without_the_credential_is_the_same_object() -> None:
    """Errors are relayed byte for byte; a missing or very short credential masks nothing."""
    text = b'{"error":"sk-ant, host h, abc"}'

    for headers in (ROUTES[0], [], [(b"x-api-key", b"abc")], [(b"host", b"h")]):
        assert CredentialMask(headers).clean(text) is text


@pytest.mark.parametrize(("key", "shown"), [(b"1234567", b"1234567"), (b"12345678", b"[redacted]")])
def test_credential_is_masked_from_eight_bytes_on(key: bytes, shown: bytes) -> None:
    """A shorter one could match other text."""
    assert CredentialMask([(b"x-api-key", key)]).clean(b"key " + key) == b"key " + shown


def keyed(wire: Wire) -> list[Any]:
    """A deployment whose requests carry the key."""
    provider = a_provider("a", [wire])
    for each, route in provider.wires.items():
        headers = (*route.headers, *ROUTES[each is Wire.ANTHROPIC])
        provider.wires[each] = type(route)(route.origin, route.base_path, headers)
    return [a_deployment(provider)]


PATHS = {
    Wire.OPENAI: ("/v1/chat/completions", OPENAI_BODY),
    Wire.ANTHROPIC: ("/v1/messages", ANTHROPIC_BODY),
}


@pytest.mark.parametrize("upstream", Wire)
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_client_reads_the_credential_in_an_error(
    wire: Wire, upstream: Wire, stream: bool
) -> None:
    """Relayed and translated; the length of the body is right again."""
    shown = json.dumps(KEY.decode())[1:-1].encode()
    body = b'{"error":{"type":"invalid_request_error","message":"header: Bearer ' + shown + b'"}}'
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", KEY),
    ]
    bench = Bench(FakeUpstreamResponse(400, head, body), deployments=keyed(upstream))
    path, request = PATHS[wire]
    client = FakeClient(path, asking(request, stream=stream))

    call = await bench.run(client)

    assert client.status == 400
    assert b"[redacted]" in client.body
    assert json.loads(client.body)["error"]["message"].startswith("header: ")
    assert client.header(b"content-length") == str(len(client.body)).encode()
    assert not any(KEY in value for _, value in client.headers)
    assert call.error is not None
    assert KEY.decode() not in f"{call.error.message} {call.error.detail}"


@pytest.mark.parametrize("upstream", Wire)
@pytest.mark.parametrize("wire", Wire)
async def test_no_client_reads_the_credential_in_a_first_event(wire: Wire, upstream: Wire) -> None:
    """A stream that begins with an error becomes an HTTP response."""
    shown = json.dumps(KEY.decode())[1:-1].encode()
    data = b'{"type":"error","error":{"type":"invalid_request_error","message":"' + shown + b'"}}'
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=keyed(upstream))
    path, request = PATHS[wire]
    client = FakeClient(path, asking(request, stream=True))

    await asyncio.gather(bench.run(client), response.end(b"event: error\ndata: " + data + b"\n\n"))

    assert client.status == 400
    assert json.loads(client.body)["error"]["message"] == "[redacted]"


async def test_detail_of_a_failed_connection_has_no_credential() -> None:
    """It goes into the log."""
    failure = GatewayError(ErrorKind.UPSTREAM_BROKEN, "m", detail=f"at {KEY.decode()}")
    bench = Bench(failure, deployments=keyed(Wire.OPENAI))

    call = await bench.run(FakeClient("/v1/chat/completions", OPENAI_BODY))

    assert call.error is not None
    assert call.error.detail == "at [redacted]"
