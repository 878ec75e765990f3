"""Rules of messages and content blocks, Anthropic Messages to OpenAI Chat Completions."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.translate.messages_to_chat.messages import NO_SIGNATURE
from tests.support.messages_to_chat import USER, messages_for, refusal, sent, translate, use

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
PDF = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": "JV=="},
}


def test_system_blocks_are_joined_without_billing_and_empty_ones():
    """One leading system message; the block whose hash changes per turn is gone."""
    blocks = [
        {"type": "text", "text": "x-anthropic-billing-header: a\nmore"},
        {"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": ""},
        {"type": "text", "text": "B"},
    ]

    assert sent({"system": blocks})["messages"][0] == {"role": "system", "content": "A\n\nB"}


@pytest.mark.parametrize("system", ["", "x-anthropic-billing-header: a", [], None])
def test_system_without_text_gives_no_message(system):
    """Nothing to say is not said."""
    assert sent({"system": system})["messages"] == [{"role": "user", "content": "Hi"}]


def test_system_image_is_refused():
    """Only text may stand in the system prompt."""
    assert refusal({"system": [PNG]}) == "system: block type 'image' is not supported by this model"


def test_system_markers_stay_where_the_dialect_keeps_them():
    """An OpenRouter-like upstream gets the parts with their cache markers."""
    marked = {"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}

    body = sent({"system": [marked]}, cache_control="keep")

    assert body["messages"][0]["content"] == [marked]


def test_mid_conversation_system_other_blocks_are_dropped_and_listed():
    """Tool additions inside a system turn are left out."""
    turn = {"role": "system", "content": [{"type": "tool_addition"}, {"type": "text", "text": "T"}]}

    answer = translate({"messages": [USER, turn]})

    assert json.loads(answer.body)["messages"][1] == {"role": "system", "content": "T"}
    assert answer.dropped == ("system_blocks",)


def test_user_parts_keep_order_and_stay_a_list_with_an_image():
    """Texts are joined only if there is nothing else."""
    content = [{"type": "text", "text": "a"}, PNG, {"type": "text", "text": ""}]

    assert messages_for(content) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        }
    ]


def test_image_url_is_passed():
    """A URL goes to the upstream as it is."""
    image = {"type": "image", "source": {"type": "url", "url": "https://e.com/x.png"}}

    part = messages_for([image])[0]["content"][0]

    assert part == {"type": "image_url", "image_url": {"url": "https://e.com/x.png"}}


def test_image_becomes_a_note_for_a_model_without_vision():
    """History with images must not fail every later turn."""
    expected = "[image omitted: this model does not accept images]"

    assert messages_for([PNG], "deepseek")[0]["content"] == expected


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
            "image source type 'file' is not supported by this model",
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://e.com"}},
            "document source type 'url' is not supported by this model",
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            "document source type 'file' is not supported by this model",
        ),
        (
            {"type": "container_upload", "file_id": "f"},
            "messages.0.content: block type 'container_upload' is not supported by this model",
        ),
    ],
)
def test_block_that_would_have_to_be_fetched_is_refused(block, message):
    """The gateway fetches nothing on behalf of a client."""
    assert refusal({"messages": [{"role": "user", "content": [block]}]}) == message


def test_pdf_is_a_file_part_or_a_note():
    """Only some dialects take documents."""
    named = PDF | {"title": "a.pdf"}

    assert messages_for([PDF, named], "openai")[0]["content"] == [
        {
            "type": "file",
            "file": {"filename": name, "file_data": "data:application/pdf;base64,JV=="},
        }
        for name in ("document.pdf", "a.pdf")
    ]
    assert (
        messages_for([PDF])[0]["content"] == "[document omitted: this model does not accept files]"
    )


def test_text_documents_and_search_results_become_text():
    """Title, context and text stand on lines of their own."""
    text = {
        "type": "document",
        "title": "T",
        "context": "C",
        "source": {"type": "text", "data": "D"},
    }
    parts = {
        "type": "document",
        "title": "T",
        "source": {"type": "content", "content": [{"type": "text", "text": "P"}]},
    }
    found = {
        "type": "search_result",
        "title": "S",
        "source": "https://e.com",
        "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
    }
    compacted = {"type": "compaction", "content": "Earlier."}

    content = messages_for([text, parts, found, compacted])[0]["content"]

    assert content == "T\nC\nD\n\nT\n\nP\n\nS\nhttps://e.com\n1\n2\n\nEarlier."


def test_tool_results_come_first_and_the_rest_follows():
    """Tool messages directly follow their calls, wherever the client put them."""
    content = [
        {"type": "text", "text": "and"},
        {"type": "tool_result", "tool_use_id": "c1", "content": "1"},
    ]

    assert messages_for(content) == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "user", "content": "and"},
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("x", "x"),
        (None, ""),
        ([], ""),
        ([{"type": "tool_reference", "tool_name": "T"}], "Loaded tool: T"),
        ([{"type": "odd", "n": 1.0}], '{"type":"odd","n":1.0}'),
        ([{"type": "document", "source": {"type": "text", "data": "D"}}], "D"),
        ([{"type": "search_result", "title": "S", "source": "u", "content": []}], "S\nu"),
        ([PDF], "[document omitted: this model does not accept files]"),
    ],
)
def test_tool_result_content_becomes_text(content, text):
    """Whatever a tool returned, the upstream gets a string."""
    block = {"type": "tool_result", "tool_use_id": "c1", "content": content}

    assert messages_for([block]) == [{"role": "tool", "tool_call_id": "c1", "content": text}]


@pytest.mark.parametrize(
    ("content", "text"),
    [("boom", "Error: boom"), ("ERROR 7", "ERROR 7"), ("<Tool_Use_Error>x", "<Tool_Use_Error>x")],
)
def test_tool_error_is_marked_once(content, text):
    """OpenAI has no flag for a failed tool."""
    block = {"type": "tool_result", "tool_use_id": "c", "content": content, "is_error": True}

    assert messages_for([block])[0]["content"] == text


def test_tool_image_without_vision_leaves_the_note_in_the_tool_text():
    """No attachment is announced that does not come."""
    block = {"type": "tool_result", "tool_use_id": "c", "content": [PNG]}

    assert messages_for([block], "deepseek") == [
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": "[image omitted: this model does not accept images]",
        }
    ]


def test_assistant_text_is_concatenated_and_null_beside_calls_only():
    """Blocks of one response were one stream."""
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert messages_for(texts, role="assistant")[0] == {"role": "assistant", "content": "ab"}
    assert messages_for([use()], role="assistant")[0]["content"] is None


@pytest.mark.parametrize("content", ["", [], [{"type": "redacted_thinking", "data": "x"}]])
def test_assistant_message_with_nothing_left_is_omitted(content):
    """An empty message would be refused upstream."""
    assert messages_for(content, role="assistant") == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("dialect", "field", "value"),
    [
        ("deepseek", "reasoning_content", "a\nb"),
        ("minimax", "reasoning_details", [{"type": "reasoning.text", "text": "a\nb"}]),
        ("generic", None, None),
    ],
)
def test_old_thoughts_are_carried_where_the_dialect_wants_them(dialect, field, value):
    """Several thinking blocks are joined; without a field for them they are omitted silently."""
    content = [
        {"type": "thinking", "thinking": "a", "signature": "gw1."},
        {"type": "thinking", "thinking": "b", "signature": "real"},
        {"type": "text", "text": "x"},
    ]

    message = messages_for(content, dialect, role="assistant")[0]

    assert message == {"role": "assistant", "content": "x"} | ({field: value} if field else {})


def test_gemini_signature_goes_to_the_call_it_belongs_to():
    """Later calls carry one only if one was stored."""
    content = [
        use("a"),
        {"type": "thinking", "thinking": "", "signature": "gw1.eyJnIjoiU0lHPT0ifQ"},
        use("b"),
        use("c"),
    ]

    calls = messages_for(content, "gemini", role="assistant")[0]["tool_calls"]

    assert [call.get("extra_content") for call in calls] == [
        {"google": {"thought_signature": NO_SIGNATURE}},
        {"google": {"thought_signature": "SIG=="}},
        None,
    ]


@pytest.mark.parametrize(("block", "kind"), [(PNG, "image"), (PDF, "document")])
@pytest.mark.parametrize("in_result", [False, True])
def test_a_note_in_the_place_of_a_block_is_named_as_dropped(block, kind, in_result):
    """The client's program can see that the model did not get it."""
    content = [block]
    if in_result:
        content = [{"type": "tool_result", "tool_use_id": "c", "content": [block]}]

    request = {"messages": [{"role": "user", "content": content}]}

    assert translate(request, images=False, files=False).dropped == (kind,)
    assert translate(request, images=True, files=True).dropped == ()


@pytest.mark.parametrize("source", [{"type": "url"}, {"type": "file", "file_id": "f"}])
def test_image_that_would_have_to_be_fetched_is_refused(source):
    """Also a URL that is missing."""
    content = [{"type": "image", "source": source}]

    assert "source type" in refusal({"messages": [{"role": "user", "content": content}]})
