"""Images and files of an OpenAI request that Anthropic takes in another form."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute
from tests.support.chat_to_messages import calling, result, turns, user

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(40)).decode()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
GIF = base64.b64encode(b"GIF89a" + bytes(8)).decode()
WEBP = base64.b64encode(b"RIFF\x00\x00\x00\x00WEBPVP8 ").decode()


def image(url: str):
    """Return an image part."""
    return {"type": "image_url", "image_url": {"url": url}}


def source_of(part):
    """Return the source of the only block."""
    return turns(user(part, {"type": "text", "text": "?"}))[0]["content"][0]["source"]


@pytest.mark.parametrize(
    ("said", "encoded", "media_type"),
    [
        ("image/png", JPEG, "image/jpeg"),
        ("image/jpeg", PNG, "image/png"),
        ("image/png", GIF, "image/gif"),
        ("application/octet-stream", WEBP, "image/webp"),
        ("", PNG, "image/png"),
        ("image/png", "AAAA", "image/png"),
        ("image/png", "A", "image/png"),
    ],
)
def test_media_type_of_an_image_is_that_of_its_bytes(said, encoded, media_type):
    """Anthropic compares them; bytes that say nothing keep the client's type."""
    source = source_of(image(f"data:{said};base64,{encoded}"))

    assert source == {"type": "base64", "media_type": media_type, "data": encoded}


@pytest.mark.parametrize("url", ["https://a.test/x.pdf", "HTTP://a.test/x"])
def test_file_data_may_be_a_url(url):
    """Anthropic fetches it."""
    assert source_of({"type": "file", "file": {"file_data": url}}) == {"type": "url", "url": url}


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (image(f"data:image/png;base64,{PNG}"), ("image_url",)),
        ({"type": "file", "file": {"file_data": "https://a.test/x.pdf"}}, ("file",)),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}, ("file",)),
        ({"type": "file", "file": {"file_data": "data:text/plain,a"}}, ()),
        ({"type": "text", "text": "a"}, ()),
    ],
)
@pytest.mark.parametrize("in_result", [False, True])
def test_a_note_in_the_place_of_a_part_is_named_as_dropped(part, named, in_result):
    """The client's program can see that the model did not get it."""
    messages = [user("a"), calling("{}"), result([part])] if in_result else [user(part, part)]
    caps = capabilities("anthropic", {"images": False, "files": False})
    body = json.dumps({"model": "m", "messages": messages}).encode()

    assert translate_request(body, TranslationRoute("up", caps)).dropped == named
