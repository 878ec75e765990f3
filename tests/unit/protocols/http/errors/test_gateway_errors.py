"""The gateway's own errors in both dialects."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Wire
from gateway.errors import SURFACES, ErrorKind, GatewayError
from gateway.protocols.http.errors.gateway_errors import render, render_event


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("wire", Wire)
def test_render_every_kind_has_the_dialects_whole_shape(kind: ErrorKind, wire: Wire) -> None:
    """Status and type follow from the kind; all members are there, with a message of its own."""
    status, headers, body = render(GatewayError(kind, ""), wire, "req_1")
    surface, decoded, found = SURFACES[kind], json.loads(body), dict(headers)

    assert found[b"content-type"] == b"application/json"
    assert found[b"content-length"] == b"%d" % len(body)
    assert found[b"request-id"] == found[b"x-request-id"] == b"req_1"
    assert decoded["error"]["message"]
    if wire is Wire.ANTHROPIC:
        assert (status, decoded["type"]) == (surface.anthropic_status, "error")
        assert decoded["request_id"] == "req_1"
        assert decoded["error"].keys() == {"type", "message"}
        assert decoded["error"]["type"] == surface.anthropic_type
    else:
        assert (status, decoded.keys()) == (surface.openai_status, {"error"})
        assert decoded["error"].keys() == {"message", "type", "param", "code"}
        assert decoded["error"]["type"] == surface.openai_type
        assert decoded["error"]["code"] == surface.openai_code


def test_render_details_of_the_error_are_told() -> None:
    """Message, param, code and the time to come back; whole seconds, rounded up."""
    error = GatewayError(
        ErrorKind.BAD_REQUEST, "model: no", param="model", code="invalid_type", retry_after_s=1.2
    )
    _, headers, body = render(error, Wire.OPENAI, None)

    assert (b"retry-after", b"2") in headers
    assert json.loads(body)["error"] == {
        "message": "model: no",
        "type": "invalid_request_error",
        "param": "model",
        "code": "invalid_type",
    }


def test_render_advice_to_retry_by_kind() -> None:
    """A bad key is not to be retried, an overload after a second."""
    assert (b"x-should-retry", b"false") in render(
        GatewayError(ErrorKind.INVALID_KEY, ""), Wire.ANTHROPIC, None
    )[1]
    for kind in (ErrorKind.OVERLOADED, ErrorKind.NO_ROUTE):
        for wire, status in ((Wire.OPENAI, 503), (Wire.ANTHROPIC, 529)):
            found = render(GatewayError(kind, ""), wire, None)
            assert found[0] == status
            assert (b"retry-after", b"1") in found[1]


def test_render_unknown_model_says_it_as_each_vendor_does() -> None:
    """The message is the model's name; the dialect says the rest."""
    error = GatewayError(ErrorKind.UNKNOWN_MODEL, "capio/x", param="model")

    assert (
        json.loads(render(error, Wire.ANTHROPIC, None)[2])["error"]["message"] == "model: capio/x"
    )
    assert json.loads(render(error, Wire.OPENAI, None)[2])["error"]["message"] == (
        "The model 'capio/x' does not exist or you do not have access to it."
    )


def test_render_half_characters_can_be_written() -> None:
    """A path or name with invalid Unicode is quoted with replacement characters."""
    error = GatewayError(ErrorKind.UNKNOWN_PATH, "nothing at /\udcff")
    assert json.loads(render(error, Wire.OPENAI, None)[2])["error"]["message"].endswith("/\ufffd")


def test_render_event_ends_a_stream_in_its_dialect() -> None:
    """An error event without the end marker of a complete stream."""
    error = GatewayError(ErrorKind.UPSTREAM_TIMEOUT, "too slow")

    assert render_event(error, Wire.ANTHROPIC) == (
        b"event: error\n"
        b'data: {"type":"error","error":{"type":"timeout_error","message":"too slow"}}\n\n'
    )
    assert render_event(error, Wire.OPENAI) == (
        b'data: {"error":{"message":"too slow","type":"server_error","param":null,'
        b'"code":"timeout"}}\n\n'
    )
