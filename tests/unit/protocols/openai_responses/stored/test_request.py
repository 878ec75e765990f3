"""Requests that refer to stored responses, and the items that are kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.stored.request import (
    item_ids,
    items_by_id,
    kept_items,
    output_of,
    read_store_request,
    references_in,
    with_history,
    with_references,
)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def test_request_says_what_is_stored_and_continued() -> None:
    made = read_store_request(
        b'{"model":"m","store":false,"previous_response_id":"resp_1","input":"Hi"}'
    )

    assert (made.store, made.previous_response_id, bytes(made.input)) == (False, "resp_1", b'"Hi"')


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"previous_response_id": 7}, "previous_response_id"),
    ],
)
def test_member_of_the_wrong_type_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        read_store_request(encoded(body))

    assert (refused.value.kind, refused.value.param) == (ErrorKind.BAD_REQUEST, param)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("Hi", []),
        ([], []),
        ([{"role": "user", "content": "Hi"}], []),
        ([{"type": "item_reference", "id": "rs_1_0"}], ["rs_1_0"]),
        ([{"role": "user"}, {"id": "rs_1_0"}], [None, "rs_1_0"]),
        ([{"type": "message", "role": "assistant", "id": "msg_1_0"}], []),
        ([7], []),
        (None, []),
    ],
)
def test_references_are_found(items: object, expected: list[str | None]) -> None:
    """The type may be left away; what is no list of items is refused elsewhere."""
    assert references_in(encoded(items)) == expected


def test_references_are_replaced_by_their_items_in_place() -> None:
    items = b'[{"role": "user"},{"type":"item_reference","id":"a"},{"id":"b"}]'

    made = with_references(items, [None, "a", "b"], {"a": b'{"n":1}', "b": b'{"n": 2}'})

    assert made == b'[{"role": "user"},{"n":1},{"n": 2}]'


def test_history_precedes_the_input() -> None:
    """The other members are unchanged, to the byte; the link is gone."""
    body = b'{"model": "m","temperature":1.0,"previous_response_id":"resp_1","input":"Three"}'

    made = with_history(body, [b'[{"n":1}]', b'[{"n":2}]'], b'"Three"')

    assert made == (
        b'{"model":"m","temperature":1.0,"input":[{"n":1},{"n":2},'
        b'{"type":"message","role":"user","content":"Three"}]}'
    )


def test_items_replace_the_input_without_a_history() -> None:
    made = with_history(b'{"input":[{"id":"a"}],"model":"m"}', [], b'[{"n":1}]')

    assert json.loads(made) == {"model": "m", "input": [{"n": 1}]}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (
            "Hi",
            [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Hi"}],
                    "id": "msg_t_in0",
                }
            ],
        ),
        (
            [
                {"role": "assistant", "content": "Yes"},
                {"type": "message", "id": "own"},
            ],
            [
                {
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
                    "id": "msg_t_in0",
                    "type": "message",
                },
                {"type": "message", "id": "own"},
            ],
        ),
        (
            [{"type": "function_call_output", "call_id": "c", "output": "o", "id": None}],
            [{"type": "function_call_output", "call_id": "c", "output": "o", "id": "fco_t_in0"}],
        ),
    ],
)
def test_kept_items_have_type_and_id(items: object, expected: list[dict[str, Any]]) -> None:
    """Own ids stay; texts have the form in which the API lists them."""
    assert json.loads(kept_items(encoded(items), "t")) == expected


def test_items_are_found_by_their_ids() -> None:
    kept = b'[{"id":"a","n": 1},{"id":"b"}]'

    assert item_ids(kept) == [("a", b'{"id":"a","n": 1}'), ("b", b'{"id":"b"}')]
    assert items_by_id(kept)["b"] == b'{"id":"b"}'


def test_output_is_taken_from_a_response_as_it_is() -> None:
    assert output_of(b'{"id":"r","output":[{"id": "a"}],"store":true}') == b'[{"id": "a"}]'


def test_lone_surrogates_do_not_break_a_conversation() -> None:
    """Half an emoji in a client's text is replaced, here as elsewhere."""
    items = b'[{"id":"\\ud83d","role":"user","content":"\\ud83d"}]'

    made = kept_items(items, "t")

    assert json.loads(made)[0]["content"][0]["text"] in ("\ud83d", "\ufffd")
    assert len(item_ids(made)) == 1
