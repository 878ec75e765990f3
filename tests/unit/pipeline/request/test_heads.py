"""The heads of upstream requests: what decides them, and what is kept."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Deployment, Model, Wire
from gateway.core.routing.plan import Candidate
from gateway.pipeline.request.heads import MOST_COPIED_BYTES, MOST_HEADS, RequestHeads
from gateway.ports import Headers
from tests.support.pipeline_fakes import a_deployment, a_model, a_provider

WIRES = (Wire.OPENAI, Wire.ANTHROPIC)
PATH = "/v1/chat/completions"


def a_candidate(wire: Wire = Wire.OPENAI, credential: int = 0) -> tuple[Candidate, Model]:
    provider = a_provider(wires=WIRES)
    for each, route in provider.wires.items():
        one, two = (((b"host", b"up.test"), (b"authorization", key)) for key in (b"one", b"two"))
        provider.wires[each] = msgspec.structs.replace(route, headers=one, alternatives=(two,))
    deployment: Deployment = a_deployment(provider)
    return Candidate(deployment, wire, credential), a_model(deployment)


def test_a_head_is_the_request_line_and_the_headers_in_order() -> None:
    candidate, model = a_candidate()
    head = RequestHeads().relayed(candidate, model, PATH, [(b"x-other", b"1"), (b"accept", b"*/*")])
    assert head.rendered == (
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\naccept: */*\r\n"
        b"host: up.test\r\nauthorization: one\r\n"
    )
    assert head.headers == (
        (b"content-type", b"application/json"),
        (b"accept", b"*/*"),
        (b"host", b"up.test"),
        (b"authorization", b"one"),
    )


def test_clients_that_send_the_same_relayed_headers_share_a_head() -> None:
    candidate, model = a_candidate()
    heads = RequestHeads()
    one = heads.relayed(candidate, model, PATH, [(b"accept", b"*/*"), (b"user-agent", b"a")])
    assert heads.relayed(candidate, model, PATH, [(b"cookie", b"b"), (b"accept", b"*/*")]) is one


@pytest.mark.parametrize(
    "client", [[(b"accept", b"text/plain")], [(b"accept", b"*/*"), (b"connection", b"accept")], []]
)
def test_another_relayed_header_makes_another_head(client: Headers) -> None:
    candidate, model = a_candidate()
    heads = RequestHeads()
    one = heads.relayed(candidate, model, PATH, [(b"accept", b"*/*")])
    assert heads.relayed(candidate, model, PATH, client).headers != one.headers


def test_deployment_wire_credential_and_path_make_another_head() -> None:
    candidate, model = a_candidate()
    other, other_model = a_candidate()
    heads = RequestHeads()
    found = [
        heads.relayed(candidate, model, PATH, []),
        heads.relayed(other, other_model, PATH, []),
        heads.relayed(candidate._replace(wire=Wire.ANTHROPIC), model, PATH, []),
        heads.relayed(candidate._replace(credential=1), model, PATH, []),
        heads.relayed(candidate, model, "/v1/embeddings", []),
        heads.translated(candidate, PATH, stream=False),
        heads.translated(candidate, PATH, stream=True),
    ]
    assert len({id(head) for head in found}) == len(found)
    assert (b"authorization", b"two") in found[3].headers
    assert found[4].rendered.startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    assert (b"accept", b"text/event-stream") in found[6].headers


def test_a_head_reports_the_betas_that_are_not_allowed() -> None:
    candidate, model = a_candidate(Wire.ANTHROPIC)
    client = [(b"anthropic-beta", b"fast-mode-2026-02-01,other-1")]
    heads = RequestHeads()
    for _ in range(2):
        head = heads.relayed(candidate, model, "/v1/messages", client)
        assert head.dropped == ("anthropic-beta.fast_mode",)
        assert (b"anthropic-beta", b"other-1") in head.headers


def test_a_head_with_a_control_character_is_left_to_the_connection() -> None:
    candidate, model = a_candidate()
    head = RequestHeads().relayed(candidate, model, PATH, [(b"accept", b"a\rb")])
    assert head.rendered == b""
    assert (b"accept", b"a\rb") in head.headers


def test_heads_are_bounded_in_number_and_size() -> None:
    candidate, model = a_candidate()
    heads = RequestHeads()
    large = [(b"accept", b"x" * (MOST_COPIED_BYTES + 1))]
    assert heads.relayed(candidate, model, PATH, large) is not heads.relayed(
        candidate, model, PATH, large
    )
    first = heads.relayed(candidate, model, PATH, [])
    for number in range(MOST_HEADS - 1):
        heads.relayed(candidate, model, PATH, [(b"accept", b"%d" % number)])
    assert heads.relayed(candidate, model, PATH, []) is first
    heads.relayed(candidate, model, PATH, [(b"accept", b"one more")])
    assert heads.relayed(candidate, model, PATH, []) is not first
