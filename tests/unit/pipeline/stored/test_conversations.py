"""Conversations of stored responses: whole or refused, in two lookups, for their key only."""

from __future__ import annotations

import pytest

from gateway.core.stored_responses import Part
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.stored.conversations import MOST_RESPONSES, Conversations
from tests.support.stored_responses import (
    OTHER_SEALER,
    SEALER,
    MemoryResponses,
    texts_in,
)

LIMIT = 1_000_000


@pytest.fixture
def store() -> MemoryResponses:
    """A conversation of three turns."""
    made = MemoryResponses()
    made.add("1")
    made.add("2", "1")
    made.add("3", "1", "2")
    return made


@pytest.fixture
def conversations(store: MemoryResponses) -> Conversations:
    return Conversations(store)


async def test_history_is_whole_and_in_order_after_two_lookups(
    store: MemoryResponses, conversations: Conversations
) -> None:
    items, chain = await conversations.history(SEALER, "resp_3", LIMIT)

    assert texts_in(items) == ["in-1", "out-1", "in-2", "out-2", "in-3", "out-3"]
    assert chain == ("1", "2", "3")
    assert [len(fetch) for fetch in store.fetches] == [1, 2]
    assert store.renewed == [True, True]


@pytest.mark.parametrize("missing", ["1", "2", "3"])
async def test_history_with_a_gap_is_refused_with_the_remedy(
    store: MemoryResponses, conversations: Conversations, missing: str
) -> None:
    """A conversation is never continued without a part of it."""
    del store.kept[SEALER.name(missing)]

    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, "resp_3", LIMIT)

    error = refused.value
    assert (error.kind, error.param, error.code) == (
        ErrorKind.BAD_REQUEST,
        "previous_response_id",
        "previous_response_not_found",
    )
    assert "Previous response with id 'resp_3'" in error.message
    assert (f"continues 'resp_{missing}'" in error.message) == (missing != "3")
    assert "Send the full input" in error.message
    assert "set store to false" in error.message


@pytest.mark.parametrize("wanted", ["resp_9", "nonsense", "resp_../3", ""])
async def test_unknown_id_is_refused(conversations: Conversations, wanted: str) -> None:
    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, wanted, LIMIT)

    assert refused.value.code == "previous_response_not_found"


async def test_other_key_finds_nothing(conversations: Conversations) -> None:
    for call in (
        conversations.history(OTHER_SEALER, "resp_1", LIMIT),
        conversations.items(OTHER_SEALER, ["msg_1_0"], LIMIT),
        conversations.response(OTHER_SEALER, "resp_1"),
        conversations.input_items(OTHER_SEALER, "resp_1", LIMIT),
        conversations.delete(OTHER_SEALER, "resp_1"),
    ):
        with pytest.raises(GatewayError) as refused:
            await call
        assert "not found" in refused.value.message


async def test_part_sealed_by_another_key_under_the_same_name_is_not_read(
    store: MemoryResponses, conversations: Conversations
) -> None:
    store.add("1", sealer=OTHER_SEALER)
    store.kept[SEALER.name("1")] = store.kept[OTHER_SEALER.name("1")]

    with pytest.raises(GatewayError) as refused:
        await conversations.response(SEALER, "resp_1")

    assert refused.value.kind is ErrorKind.RESPONSE_NOT_FOUND


async def test_items_are_found_in_input_and_output_reading_only_their_part(
    store: MemoryResponses, conversations: Conversations
) -> None:
    found = await conversations.items(SEALER, ["msg_1_0", "msg_2_in0"], LIMIT)

    assert texts_in([b"[" + found[name] + b"]" for name in ("msg_1_0", "msg_2_in0")]) == [
        "out-1",
        "in-2",
    ]
    assert store.fetches == [
        [
            (SEALER.name("1"), frozenset({Part.RESPONSE})),
            (SEALER.name("2"), frozenset({Part.INPUT})),
        ]
    ]


@pytest.mark.parametrize("item_id", ["msg_1_7", "msg_9_0", "msg_1_in7", "foreign"])
async def test_unknown_item_is_named(conversations: Conversations, item_id: str) -> None:
    with pytest.raises(GatewayError) as refused:
        await conversations.items(SEALER, ["msg_1_0", item_id], LIMIT)

    error = refused.value
    assert (error.kind, error.code) == (ErrorKind.RESPONSE_NOT_FOUND, "item_not_found")
    assert f"'{item_id}'" in error.message
    assert "set store to false" in error.message


async def test_response_and_its_input_are_read_without_renewing_the_response(
    store: MemoryResponses, conversations: Conversations
) -> None:
    response = await conversations.response(SEALER, "resp_2")
    items = await conversations.input_items(SEALER, "resp_2", LIMIT)

    assert b'"resp_2"' in response
    assert [item_id for item_id, _ in items] == ["msg_1_in0", "msg_1_0", "msg_2_in0"]
    assert texts_in([b"[" + item + b"]" for _, item in items]) == ["in-1", "out-1", "in-2"]
    assert store.renewed[:2] == [False, False]


async def test_deleted_response_is_gone(
    store: MemoryResponses, conversations: Conversations
) -> None:
    await conversations.delete(SEALER, "resp_2")

    assert SEALER.name("2") not in store.kept
    with pytest.raises(GatewayError) as refused:
        await conversations.delete(SEALER, "resp_2")
    assert refused.value.kind is ErrorKind.RESPONSE_NOT_FOUND


async def test_history_is_bounded_in_bytes(
    store: MemoryResponses, conversations: Conversations
) -> None:
    """Of the whole conversation, and by what the store returns at once."""
    items, _ = await conversations.history(SEALER, "resp_1", LIMIT)
    enough = 3 * sum(map(len, items)) + 200
    await conversations.history(SEALER, "resp_3", enough)
    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, "resp_3", enough // 2)
    assert refused.value.kind is ErrorKind.BODY_TOO_LARGE
    store.too_large = True
    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, "resp_3", LIMIT)
    assert refused.value.kind is ErrorKind.BODY_TOO_LARGE


async def test_history_and_references_are_bounded_in_responses(
    store: MemoryResponses, conversations: Conversations
) -> None:
    tokens = [f"t{number}" for number in range(MOST_RESPONSES)]
    store.add("long", *tokens)

    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, "resp_long", LIMIT)
    assert (refused.value.kind, refused.value.param) == (
        ErrorKind.BAD_REQUEST,
        "previous_response_id",
    )
    with pytest.raises(GatewayError) as refused:
        ids = [f"msg_t{number}_0" for number in range(MOST_RESPONSES + 1)]
        await conversations.items(SEALER, ids, LIMIT)
    assert (refused.value.kind, refused.value.param) == (ErrorKind.BAD_REQUEST, "input")
    assert len(store.fetches) == 1


async def test_unavailable_store_is_reported(
    store: MemoryResponses, conversations: Conversations
) -> None:
    store.available = False

    with pytest.raises(GatewayError) as refused:
        await conversations.history(SEALER, "resp_3", LIMIT)

    assert refused.value.kind is ErrorKind.STORE_UNAVAILABLE
