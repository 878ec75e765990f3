"""Copying plain text changes no translated stream, wherever its reads end."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.codec.sse import EventDecoder
from gateway.protocols.codec.text_splice import TextSplice
from gateway.protocols.translate.capabilities import PLAIN, Capabilities
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator

TAGS = Capabilities(think_tags=True)
CONTEXT = ResponseContext(model="m", stream=True, created=1)


class _Never(TextSplice):
    """Counts nothing, learns nothing, copies nothing."""

    __slots__ = ()

    def observe(self, chunk: bytes, text: str, out: bytes) -> None:
        """Stay inactive."""


class _Counting(TextSplice):
    __slots__ = ("copied",)

    def __init__(self) -> None:
        super().__init__()
        self.copied = 0

    def splice(self, chunk: bytes) -> bytes | None:
        found = super().splice(chunk)
        self.copied += found is not None
        return found


def chat(delta: object, *, ascii_only: bool, **members: object) -> bytes:
    """Return an event of a chat stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": members.pop("finish", None)}
    event = {"id": "chatcmpl-1", "choices": [choice], **members}
    return (
        b"data: "
        + json.dumps(event, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        + b"\n\n"
    )


def messages(event: dict[str, object], *, ascii_only: bool) -> bytes:
    """Return an event of a Messages stream."""
    body = json.dumps(event, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), body)


WORDS = st.text(st.sampled_from("ab \n\"\\'`中😀"), max_size=4)
ODD = st.sampled_from(
    ["<", "<think>", "</think>", "`</think>`", "</thi", "nk>", "\ud83d", "\ude00"]
)
TEXT = st.one_of(WORDS, WORDS, WORDS, ODD)


@st.composite
def chat_streams(draw: st.DrawFn) -> list[bytes]:
    """Return events, most of them text."""
    escaped = draw(st.booleans())
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    others = st.sampled_from(
        [
            chat({"reasoning_content": "r"}, ascii_only=True),
            chat({"refusal": "no"}, ascii_only=True),
            chat({"tool_calls": [call]}, ascii_only=True),
            chat({"content": "t", "reasoning": "r"}, ascii_only=True),
            chat({"content": "u"}, ascii_only=True, usage={"prompt_tokens": 3}),
            chat({"content": "v"}, ascii_only=True, finish="stop"),
            b": ping\n\n",
        ]
    )
    text = st.builds(lambda content: chat({"content": content}, ascii_only=escaped), TEXT)
    events = draw(st.lists(st.one_of(text, text, text, text, others), max_size=14))
    return [*events, b"data: [DONE]\n\n"]


@st.composite
def messages_streams(draw: st.DrawFn) -> list[bytes]:
    """Return events of two blocks, most of them text."""
    escaped = draw(st.booleans())

    def delta(index: int, kind: str, value: str) -> bytes:
        member = {"text_delta": "text", "thinking_delta": "thinking"}.get(kind, "partial_json")
        body = {"type": kind, member: value}
        event = {"type": "content_block_delta", "index": index, "delta": body}
        return messages(event, ascii_only=escaped)

    kinds = st.sampled_from(["text_delta", "text_delta", "text_delta", "thinking_delta"])
    events = [messages({"type": "message_start", "message": {"id": "msg_1"}}, ascii_only=True)]
    for index in range(2):
        events.append(
            messages(
                {
                    "type": "content_block_start",
                    "index": index,
                    "content_block": {"type": draw(st.sampled_from(["text", "thinking"]))},
                },
                ascii_only=True,
            )
        )
        pieces = draw(st.lists(st.tuples(kinds, TEXT), max_size=7))
        events += [delta(index, kind, value) for kind, value in pieces]
        events.append(messages({"type": "content_block_stop", "index": index}, ascii_only=True))
    return [*events, messages({"type": "message_stop"}, ascii_only=True)]


def written(translator: StreamTranslator, reads: list[bytes]) -> list[tuple[bytes | None, object]]:
    """Return the client's events, decoded."""
    body = b"".join(translator.feed(read) for read in reads) + translator.end(clean=True)
    decoder = EventDecoder()
    events = decoder.feed(body) + decoder.end()
    return [
        (each.event, each.data if each.data == b"[DONE]" else json.loads(each.data))
        for each in events
    ]


def check(new: Callable[[], StreamTranslator], events: list[bytes], cuts: set[int]) -> None:
    """Compare with a translator that copies nothing."""
    reads = []
    for number, event in enumerate(events):
        middle = len(event) // 2
        reads += [event[:middle], event[middle:]] if number in cuts else [event]
    joined = [b"".join(reads[at : at + 2]) for at in range(0, len(reads), 2)]
    for each in (reads, joined):
        usual = new()
        usual._splice = _Never()
        assert written(new(), each) == written(usual, each)


CUTS = st.sets(st.integers(0, 20), max_size=2)


@pytest.mark.parametrize("caps", [PLAIN, TAGS], ids=["plain", "tags"])
@given(events=chat_streams(), cuts=CUTS)
def test_copied_text_reads_the_same_for_messages_clients(
    caps: Capabilities, events: list[bytes], cuts: set[int]
) -> None:
    check(lambda: messages_stream(CONTEXT, caps), events, cuts)


@given(events=messages_streams(), cuts=CUTS)
def test_copied_text_reads_the_same_for_chat_clients(events: list[bytes], cuts: set[int]) -> None:
    check(lambda: chat_stream(CONTEXT), events, cuts)


@pytest.mark.parametrize("caps", [PLAIN, TAGS], ids=["plain", "tags"])
def test_text_after_the_second_piece_is_copied(caps: Capabilities) -> None:
    translator = messages_stream(CONTEXT, caps)
    counting = translator._splice = _Counting()

    for number in range(10):
        translator.feed(chat({"content": f"word {number}"}, ascii_only=False))

    assert counting.copied == 7


def test_quote_before_a_closing_tag_is_remembered_from_copied_text() -> None:
    translator = messages_stream(CONTEXT, TAGS)
    for text in ("one", "two", "three", "four", "the tag `"):
        translator.feed(chat({"content": text}, ascii_only=False))

    assert b"</think>" in translator.feed(chat({"content": "</think>` ends"}, ascii_only=False))
