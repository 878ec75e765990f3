"""The idempotency header, claims, sealed responses and replayed headers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.idempotency import (
    SCOPE_BYTES,
    ResponseRecorder,
    Sealer,
    StoredResponse,
    keyed_request,
    replay_headers,
)
from gateway.core.model import Endpoint
from gateway.errors import ErrorKind, GatewayError
from tests.support.idempotency import ANSWER, OTHER_RAW_KEY, PRINCIPAL, RAW_KEY, claim_of

NONCE = b"n" * 12
SEALER = Sealer(RAW_KEY)
CLAIM = claim_of()


def test_keyed_request_without_header_is_none() -> None:
    """A request without the header has no idempotency key."""
    assert keyed_request([(b"content-type", b"application/json")], RAW_KEY) is None


@pytest.mark.parametrize(
    "value", [b"", b"a b", b"k\x7f", b"k\n", b"\xc3\xa9", b"x" * 256], ids=repr
)
def test_keyed_request_with_unusable_value_is_bad_request(value: bytes) -> None:
    """A value that is not 1 to 255 visible ASCII characters is refused by the header's name."""
    with pytest.raises(GatewayError) as caught:
        keyed_request([(b"idempotency-key", value)], RAW_KEY)

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert "Idempotency-Key" in caught.value.message


def test_keyed_request_with_longest_value_is_taken() -> None:
    """255 characters from `!` to `~` are allowed."""
    for character in (b"!", b"~"):
        assert keyed_request([(b"idempotency-key", character * 255)], RAW_KEY) is not None


def test_keyed_request_with_two_values_is_bad_request() -> None:
    """Two different values are refused; the same value twice is accepted."""
    one, two = (b"idempotency-key", b"a"), (b"idempotency-key", b"b")

    with pytest.raises(GatewayError) as caught:
        keyed_request([one, two], RAW_KEY)

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert keyed_request([one, one], RAW_KEY) is not None


def test_claim_of_same_call_is_the_same() -> None:
    """A repetition is recognised by any worker: claims hold no chance."""
    again = claim_of()

    assert (again.scope, again.fingerprint) == (CLAIM.scope, CLAIM.fingerprint)
    assert (len(CLAIM.scope), len(CLAIM.fingerprint)) == (16, 32)


def test_claim_scope_differs_by_account_key_endpoint_and_value() -> None:
    """Scopes of different clients, keys and endpoints differ."""
    other_account = msgspec.structs.replace(PRINCIPAL, account_id="acct_2")
    other_key = msgspec.structs.replace(PRINCIPAL, key_id="key_2")

    scopes = {
        CLAIM.scope,
        claim_of("order-18").scope,
        claim_of(principal=other_account).scope,
        claim_of(principal=other_key).scope,
        claim_of(endpoint=Endpoint.EMBEDDINGS).scope,
        claim_of(raw_key=OTHER_RAW_KEY).scope,
    }

    assert len(scopes) == 6


def test_claim_fingerprint_differs_by_body_and_caller() -> None:
    """Equal prompts of two clients have different stored values."""
    prints = {
        CLAIM.fingerprint,
        claim_of(body=b'{"model":"n"}').fingerprint,
        claim_of(raw_key=OTHER_RAW_KEY).fingerprint,
    }

    assert len(prints) == 3


def test_claim_scope_parts_do_not_run_into_each_other() -> None:
    """Moving characters from one part to the next changes the scope."""
    assert SEALER.name("ab", "c") != SEALER.name("a", "bc") != SEALER.name("abc")


@given(
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3),
    body=st.binary(max_size=3000),
    request_id=st.text(max_size=40),
)
def test_sealed_answer_opens_for_its_claim_only(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str
) -> None:
    """A sealed response opens only for the same client, key and body."""
    response = StoredResponse(status, tuple(headers), body, request_id)

    sealed = SEALER.seal(response, CLAIM, NONCE)

    assert SEALER.unseal(sealed, CLAIM) == response
    assert SEALER.unseal(sealed, claim_of("other")) is None
    assert SEALER.unseal(sealed, claim_of(body=b"other")) is None
    assert Sealer(OTHER_RAW_KEY).unseal(sealed, CLAIM) is None


@given(st.data())
def test_sealed_answer_changed_anywhere_does_not_open(data: st.DataObject) -> None:
    """One flipped bit, a cut or an addition is noticed."""
    sealed = SEALER.seal(ANSWER, CLAIM, NONCE)
    place = data.draw(st.integers(0, len(sealed) - 1))
    bit = 1 << data.draw(st.integers(0, 7))

    flipped = sealed[:place] + bytes([sealed[place] ^ bit]) + sealed[place + 1 :]

    assert SEALER.unseal(flipped, CLAIM) is None
    assert SEALER.unseal(sealed[:place], CLAIM) is None
    assert SEALER.unseal(sealed + b"\0", CLAIM) is None


def test_sealed_answer_shows_nothing_of_the_answer() -> None:
    """Neither body nor headers can be read, and two sealings differ."""
    sealed = SEALER.seal(ANSWER, CLAIM, NONCE)

    assert b"forty" not in sealed
    assert b"json" not in sealed
    assert b"req_" not in sealed
    assert SEALER.seal(ANSWER, CLAIM, b"m" * 12)[12:] != sealed[12:]


def test_printed_forms_show_no_secret() -> None:
    """The representations of these objects contain neither key nor header value."""
    request = keyed_request([(b"idempotency-key", b"order-17")], RAW_KEY)

    printed = f"{request!r} {SEALER!r} {CLAIM!r}"

    assert RAW_KEY not in printed
    assert "order-17" not in printed
    assert not hasattr(SEALER, "__dict__")


def copied(limit_bytes: int, *chunks: bytes) -> StoredResponse | None:
    copy = ResponseRecorder(limit_bytes)
    copy.start(
        200,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"99"),
            (b"x-request-id", b"req_first"),
            (b"x-upstream-request-id", b"up_1"),
            (b"server-timing", b"overhead;dur=1"),
            (b"x-capio-dropped", b"seed"),
            (b"x-ratelimit-remaining-requests", b"3"),
        ],
    )
    for chunk in chunks:
        copy.add(chunk)
    return copy.stored_response("req_first")


def test_answer_copy_keeps_body_and_lasting_headers() -> None:
    """The body comes back joined; ids, times and limits of the first call are not repeated."""
    response = copied(10, b"one", b"", b"two")

    assert response == StoredResponse(
        200,
        (
            (b"content-type", b"application/json"),
            (b"x-upstream-request-id", b"up_1"),
            (b"x-capio-dropped", b"seed"),
        ),
        b"onetwo",
        "req_first",
    )


def test_answer_copy_at_the_limit_is_kept_and_beyond_it_dropped() -> None:
    """The limit counts bytes of the body over all chunks, once and for all."""
    assert copied(6, b"abc", b"def") is not None
    assert copied(6, b"abc", b"defg") is None
    assert copied(6, b"abcdefg", b"", b"h") is None


def test_answer_copy_that_saw_no_head_has_no_answer() -> None:
    """A call without a response has nothing to replay."""
    assert ResponseRecorder(10).stored_response("req_first") is None


def test_replay_headers_name_both_calls() -> None:
    """A repetition carries its own id, the first call's id, and says what it is."""
    assert replay_headers(ANSWER, "req_second") == [
        (b"content-type", b"application/json"),
        (b"content-length", b"31"),
        (b"request-id", b"req_second"),
        (b"x-request-id", b"req_second"),
        (b"x-original-request-id", b"req_first"),
        (b"idempotent-replayed", b"true"),
    ]


def test_keys_derived_for_names_and_fingerprints_differ() -> None:
    """A name and a fingerprint of the same bytes have nothing in common."""
    parts = ("a", "b")

    fingerprint = SEALER.fingerprint(msgspec.msgpack.encode(parts))

    assert fingerprint[:SCOPE_BYTES] != SEALER.name(*parts)


def test_records_of_an_earlier_release_are_found_and_opened() -> None:
    """Names, fingerprints and sealed responses stay the same while workers are replaced."""
    sealed = bytes.fromhex(
        "6e6e6e6e6e6e6e6e6e6e6e6e522fc88d7ea9eaca738d9dc84464030834846f9e504d0d308665a7fb57ec4b12"
        "44a425b7f22ee8cc34f51275c83cc092b0f68366fa01d56ded65d6046b78481dd4f499d09247df4020bbdddb"
        "3f49c1d0a4ba22acd546f58fa49a83ed1741c2b1"
    )

    assert SEALER.name("acct", "key").hex() == "d048425dd98511bf37d864847562f0cb"
    assert SEALER.fingerprint(b"{}").hex() == (
        "64c40c8082030688d27cd79a37fbd7c3753bf37e2c847de2a3e0d23165311eaf"
    )
    assert SEALER.unseal(sealed, CLAIM) == ANSWER
    assert SEALER.seal(ANSWER, CLAIM, NONCE) == sealed
