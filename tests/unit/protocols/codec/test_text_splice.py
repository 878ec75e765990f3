"""Text is copied between constant bytes, and only where the usual translation gives the same."""

from __future__ import annotations

import pytest

from gateway.protocols.codec.text_splice import TextSplice


def chunk(text: str) -> bytes:
    """Return an upstream's event with `text` as in JSON."""
    return f'data: {{"id":"1","content":"{text}","x":null}}\n\n'.encode()


def out(text: str) -> bytes:
    """Return the client's event."""
    return f'event: delta\ndata: {{"text":"{text}"}}\n\n'.encode()


def learned() -> TextSplice:
    """Return a splice that has seen two text events."""
    splice = TextSplice()
    for text in ("one", "two"):
        assert not splice.active
        splice.observe(chunk(text), text, out(text))
    assert splice.active
    return splice


@pytest.mark.parametrize(
    "text", ["three", " ", "a b", r"a\n\"b\"\\", "中文 😀", "data: x", '\\"content\\":', "\x7f"]
)
def test_text_is_copied(text: str) -> None:
    splice = learned()

    assert splice.splice(chunk(text)) == out(text)
    assert splice.last == text.encode()


def test_events_of_one_read_are_copied() -> None:
    splice = learned()

    assert splice.splice(chunk("a") + chunk("b") + chunk("中")) == out("a") + out("b") + out("中")
    assert splice.last.decode() == "中"


@pytest.mark.parametrize(
    "other",
    [
        chunk(""),
        chunk("a<b"),  # perhaps a tag
        chunk(r"\ud83d"),  # half a surrogate pair
        chunk(r"\u0061"),
        chunk("a\tb"),  # not JSON
        chunk('a","b":"c'),  # another member
        chunk("a")[:-1],
        chunk("a")[1:],
        chunk("a") + chunk("<"),
        chunk("a") + b": ping\n\n",
        b": ping\n\n" + chunk("a"),
        chunk("a").replace(b"null", b"true"),
        chunk("a").replace(b"a", b"\xff"),
        chunk("a") + chunk("b").replace(b"b", b"\xed\xa0\x80"),
        chunk("a").replace(b"\n", b"\r\n"),
        b"",
    ],
)
def test_other_events_are_not_copied(other: bytes) -> None:
    assert learned().splice(other) is None


def test_event_of_another_translation_ends_the_copying_until_one_fits() -> None:
    splice = learned()

    splice.observe(chunk("a<"), "a<", out("a"))  # `<` is held back
    assert not splice.active
    splice.observe(chunk("b"), "b", out("<b"))
    assert not splice.active
    splice.observe(chunk("c"), "c", out("c"))
    splice.observe(chunk("d"), "d", out("d"))
    assert splice.active
    splice.observe(chunk(""), "", b"")
    assert not splice.active


def test_numbered_events_are_never_copied() -> None:
    splice = TextSplice()
    for number in range(40):
        text = f"text {number}"
        splice.observe(chunk(text), text, out(text) + b"data: %d\n\n" % number)
        assert not splice.active


@pytest.mark.parametrize(
    "first",
    [
        (b'data: {"content":"one","copy":"one"}\n\n', out("one")),  # which of them?
        (chunk("one"), b'data: {"text":"one","copy":"one"}\n\n'),
        (chunk(r"\u006fne"), out("one")),
        (chunk("one") + b": ping\n\n", out("one")),
        (chunk("one").replace(b"\n", b"\r\n"), out("one")),
        (chunk("one").replace(b"null", b"1" * 5000), out("one")),  # would be kept
        (chunk("one"), out("one").replace(b"delta", b"d" * 5000)),
    ],
)
def test_nothing_is_learned_from_an_ambiguous_or_large_event(first: tuple[bytes, bytes]) -> None:
    splice = TextSplice()
    for _ in range(3):
        splice.observe(first[0], "one", first[1])
    assert not splice.active
