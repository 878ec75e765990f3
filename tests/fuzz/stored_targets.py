"""Targets: what is stored of Responses requests, and what clients send back of it."""

from __future__ import annotations

from typing import Final

from gateway.core.stored_responses import Part, encode_input
from gateway.protocols.openai_responses.compaction import summary_message
from gateway.protocols.openai_responses.reasoning import pack_reasoning
from gateway.protocols.openai_responses.stored.request import (
    item_ids,
    kept_items,
    read_store_request,
    references_in,
    with_history,
    with_references,
)
from tests.fuzz import seeds, shapes
from tests.fuzz.request_targets import is_comparable, value_of
from tests.fuzz.shapes import crowd, numbered
from tests.fuzz.target import Target
from tests.support.stored_responses import NONCE, SEALER

NAME: Final = SEALER.name("t")
MOST_BYTES: Final = 1_000_000
ITEM: Final = b'{"id":"msg_1","type":"message"}'


def read_stored(body: bytes) -> None:
    """Stored items have ids and stay as they are; a follow-up has them and its own."""
    request = read_store_request(body)
    items = bytes(request.input)
    references = references_in(items)
    if references:
        found = dict.fromkeys((each for each in references if each is not None), ITEM)
        items = with_references(items, references, found)
        assert references_in(items) == []
    kept = kept_items(items, "t")
    ids = [item_id for item_id, _ in item_ids(kept)]
    assert all(ids)
    assert kept_items(kept, "u") == kept
    whole = with_history(body, [kept], items)
    if not is_comparable(whole):
        return
    sent = value_of(whole)
    assert "previous_response_id" not in sent
    if ids:
        assert len(sent["input"]) == 2 * len(ids)
        assert sent["input"][: len(ids)] == value_of(kept)


def read_summary(encrypted: bytes) -> None:
    """A compaction item is text for the model, or refused."""
    assert isinstance(summary_message(encrypted.decode("latin-1"), "input.0"), str)


def unseal(sealed: bytes) -> None:
    """Nothing but what was sealed is decrypted."""
    plain = SEALER.unseal(NAME, Part.INPUT, sealed, MOST_BYTES)
    assert (plain is not None) == (sealed in SEALED)


SEALED: Final = [
    SEALER.seal(NAME, Part.INPUT, encode_input(b"[" + ITEM + b"]", ("a",)), NONCE),
    SEALER.seal(NAME, Part.INPUT, encode_input(b"[]", ()), NONCE[::-1]),
]
SUMMARIES: Final = [
    pack_reasoning("Fix the test", []).encode(),
    b"gw1.AAAA",
    b"gAAAAABm",
    b"A plain summary",
    b"",
]
CONTINUED: Final = [
    b'{"model":"m","previous_response_id":"resp_1","input":"Hi"}',
    b'{"model":"m","store":true,"input":[{"role":"user","content":"Hi"},'
    b'{"type":"item_reference","id":"msg_1"},{"id":"rs_2"},{"role":"assistant","content":"Yes"}]}',
]
REFERENCES: Final = {
    "references": numbered(b'{"input":[', b'{"type":"item_reference","id":"m%d"}', b"]}"),
    "ids alone": numbered(b'{"input":[', b'{"id":"m%d"}', b"]}"),
}
TEXTS: Final = {
    "packed": lambda size: b"gw1." + b"A" * size,
    "text": lambda size: b"a" * size,
    "padding": crowd(b"gw1.", b"=", b"", b""),
}

TARGETS = [
    Target(
        "stored-input",
        read_stored,
        [*seeds.RESPONSES, *CONTINUED],
        {**shapes.REQUESTS, **REFERENCES},
    ),
    Target("compaction", read_summary, SUMMARIES, TEXTS),
    Target("sealed", unseal, SEALED, {"zeros": bytes, "text": lambda size: b"a" * size}),
]
