"""Parts of stored responses: sealed for one name and kind under one client's key."""

from __future__ import annotations

import pytest

from gateway.core.model import Principal
from gateway.core.stored_responses import (
    Part,
    ResponseSealer,
    StoredInput,
    decode_input,
    encode_input,
)
from tests.support.idempotency import OTHER_RAW_KEY, PRINCIPAL, RAW_KEY

NONCE = bytes(range(12))
PLAIN = b'{"id":"resp_1","output":[{"text":"forty-two"}]}'
SEALER = ResponseSealer(RAW_KEY, PRINCIPAL)
NAME = SEALER.name("1")
SEALED = SEALER.seal(NAME, Part.RESPONSE, PLAIN, NONCE)


def test_sealed_part_opens_for_its_name_and_kind() -> None:
    assert SEALER.unseal(NAME, Part.RESPONSE, SEALED, len(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("sealer", "name", "part", "sealed"),
    [
        (ResponseSealer(OTHER_RAW_KEY, PRINCIPAL), NAME, Part.RESPONSE, SEALED),
        (SEALER, SEALER.name("2"), Part.RESPONSE, SEALED),
        (SEALER, NAME, Part.INPUT, SEALED),
        (SEALER, NAME, Part.RESPONSE, SEALED[:-1] + bytes([SEALED[-1] ^ 1])),
        (SEALER, NAME, Part.RESPONSE, SEALED[:20]),
        (SEALER, NAME, Part.RESPONSE, b""),
    ],
    ids=["other key", "other name", "other part", "altered", "cut", "empty"],
)
def test_sealed_part_opens_for_nothing_else(
    sealer: ResponseSealer, name: bytes, part: Part, sealed: bytes
) -> None:
    assert sealer.unseal(name, part, sealed, 1000) is None


def test_part_above_the_limit_is_not_decompressed() -> None:
    """A compressed part may be a thousand times as large as it looks."""
    sealed = SEALER.seal(NAME, Part.INPUT, bytes(1_000_000), NONCE)

    assert len(sealed) < 10_000
    with pytest.raises(OverflowError):
        SEALER.unseal(NAME, Part.INPUT, sealed, 999_999)
    assert SEALER.unseal(NAME, Part.INPUT, sealed, 1_000_000) == bytes(1_000_000)


def test_nothing_readable_is_in_a_sealed_part() -> None:
    assert b"forty-two" not in SEALED
    assert b"resp_1" not in SEALED


def test_names_differ_by_api_key_account_key_id_and_token() -> None:
    """A name is found by one key only, although tokens are no secret."""
    sealers = [
        SEALER,
        ResponseSealer(OTHER_RAW_KEY, PRINCIPAL),
        ResponseSealer(RAW_KEY, Principal("key_2", "acct_1", "laptop", "active", 1)),
        ResponseSealer(RAW_KEY, Principal("key_1", "acct_2", "laptop", "active", 1)),
    ]
    names = {sealer.name(token) for sealer in sealers for token in ("1", "2")}

    assert len(names) == 8
    assert ResponseSealer(RAW_KEY, PRINCIPAL).name("1") == NAME


def test_input_keeps_items_and_ancestors() -> None:
    made = decode_input(encode_input(b'[{"id":"a"}]', ["1", "2"]))

    assert made == StoredInput(b'[{"id":"a"}]', ("1", "2"))
