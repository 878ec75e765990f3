"""Tool-call ids that repeat in an OpenAI history, which Anthropic refuses."""

from __future__ import annotations

from gateway.protocols.translate.chat_to_messages.call_ids import CallIds
from tests.support.chat_to_messages import calling, result, turns, user


def pairs(history):
    """Return the id of each call with the results that have it."""
    blocks = [block for turn in history for block in turn["content"]]
    results = [(block["tool_use_id"], block["content"]) for block in blocks if "content" in block]
    return [block["id"] for block in blocks if block["type"] == "tool_use"], results


def test_a_repeated_id_gets_a_number_and_its_result_too():
    """The first pair keeps its id, so that prompt caches stay valid."""
    history = turns(
        user("Hi"),
        calling("{}", "call_0"),
        result("x", "call_0"),
        calling("{}", "call_0"),
        result("y", "call_0"),
        calling("{}", "call_0"),
        result("z", "call_0"),
    )

    ids = ["call_0", "call_0_2", "call_0_3"]
    assert pairs(history) == (ids, list(zip(ids, "xyz", strict=True)))


def test_the_same_id_twice_in_one_turn():
    """Results belong to the calls in their order."""
    twice = calling("{}")
    twice["tool_calls"] *= 2

    history = turns(user("Hi"), twice, result("x"), result("y"))

    assert pairs(history) == (["c1", "c1_2"], [("c1", "x"), ("c1_2", "y")])


def test_a_number_that_is_taken_is_not_given_again():
    """A client's own id may look like a numbered one."""
    ids = CallIds()

    assert [ids.of_call(call) for call in ("a", "a_2", "a")] == ["a", "a_2", "a_3"]


def test_a_result_without_a_call_keeps_its_id():
    """The upstream says what is wrong with it."""
    assert CallIds().of_result("x.1") == "gwid_eC4x"
