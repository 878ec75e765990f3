"""Ids of stored responses: each leads to its response."""

from __future__ import annotations

import pytest

from gateway.protocols.openai_responses.stored.ids import (
    ItemPlace,
    input_item_id,
    item_place,
    response_id,
    response_token,
    token_of,
)

TOKEN = "0123456789abcdef0123456789"


def test_token_of_a_call_is_in_all_its_ids() -> None:
    assert token_of(f"req_{TOKEN}") == TOKEN
    assert response_token(response_id(TOKEN)) == TOKEN
    assert item_place(input_item_id("message", TOKEN, 12)) == ItemPlace(TOKEN, is_input=True)
    assert item_place(f"fc_{TOKEN}_3") == ItemPlace(TOKEN, is_input=False)


@pytest.mark.parametrize(
    "given",
    ["", "resp_", "resp_a b", f"msg_{TOKEN}", "resp_" + "a" * 65, f"resp_{TOKEN}\n", "resp_ä"],
)
def test_other_response_ids_have_no_token(given: str) -> None:
    assert response_token(given) is None


@pytest.mark.parametrize(
    "given", ["", "msg_1", f"msg_{TOKEN}_x", f"MSG_{TOKEN}_1", f"msg_{TOKEN}_1\n", "msg__1"]
)
def test_other_item_ids_have_no_place(given: str) -> None:
    assert item_place(given) is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("message", "msg_t_in0"), ("function_call_output", "fco_t_in0"), ("computer", "item_t_in0")],
)
def test_input_item_is_named_by_its_kind(kind: str, expected: str) -> None:
    assert input_item_id(kind, "t", 0) == expected
