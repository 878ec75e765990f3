"""Mutations of valid input: of JSON values by their structure, of any input by its bytes."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 64 * 1024
"""Large input is for the measurement of time against size."""
TOKENS = (
    *(b"null", b"true", b"0", b"-1", b"1e400", b"1e18", b"9" * 30, b"9" * 5000, b"[]", b"{}"),
    *(b'""', b'"\\ud800"', b'"\\u0000"', b"[[[[[[", b'{"a":', b"\xff", b"\n\n", b"\r", b"\r\n"),
    *(b"data: ", b"event: error\n", b'"usage"', b'"model":"x"', b",", b"NaN", b"1.5", b":"),
    *(b'"\xed\xa0\x80"', b"\x00", b"0x5", b"transfer-encoding: chunked\r\n"),
    *(b"content-length: 7\r\n", b"0" * 5000, b"\\", b'"', b"\\u006d", b" " * 70, b"\xef\xbb\xbf"),
)
VALUES: tuple[Any, ...] = (
    *(None, [], {}, "", 0, -1, 1.5, True, "x" * 50, 10**30, {"type": "text"}, [None], [[]], [{}]),
    *("auto", "\ud800", "\udc00a", "a\0b", 1e300, {"type": None}, 2**63, "gw1.", 1000000001),
)
NAMES = (
    *("type", "role", "content", "id", "index", "usage", "name", "model", "stream", "n", "tools"),
    *("max_tokens", "stream_options", "include_usage", "Model", "input", "choices", "delta"),
)


def mutate(source: bytes, draw: random.Random) -> bytes:
    """Return a changed input: as JSON, as a series of events of JSON, or as bytes."""
    if b"data:" in source and draw.random() < 0.6:
        return _mutate_events(source, draw)[:MOST_BYTES]
    return _mutate_document(source, draw)[:MOST_BYTES]


def _mutate_document(source: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.6:
        try:
            value = json.loads(source)
        except (ValueError, RecursionError):
            pass
        else:
            return _mutate_json(value, draw)
    return _mutate_bytes(source, draw)


def pieces(data: bytes, sizes: tuple[int, ...] = (1, 2, 3, 10, 50, 1000)) -> Iterator[bytes]:
    """Yield the input cut somewhere: for the same input at the same places."""
    draw = random.Random(zlib.crc32(data))
    at = 0
    while at < len(data):
        end = at + draw.choice(sizes)
        yield data[at:end]
        at = end


def _mutate_json(value: object, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 4)):
        value = _mutate_value(value, draw)
    text = json.dumps(value, ensure_ascii=draw.random() < 0.7)
    body = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.2 and body.startswith(b"{") and len(body) > 2:
        # A name twice: dictionaries cannot say it.
        name = json.dumps(draw.choice(NAMES)).encode()
        again = name + b":" + json.dumps(draw.choice(VALUES)).encode()
        body = b"{" + again + b"," + body[1:]
    return body


def _mutate_value(value: Any, draw: random.Random) -> Any:
    chance = draw.random()
    if isinstance(value, dict) and value and chance > 0.08:
        changed = dict(value)
        name = draw.choice(list(changed))
        if chance < 0.16:
            del changed[name]
        elif chance < 0.24:
            changed[draw.choice(NAMES)] = draw.choice(VALUES)
        else:
            changed[name] = _mutate_value(changed[name], draw)
        return changed
    if isinstance(value, list) and value and chance > 0.1:
        items = list(value)
        at = draw.randrange(len(items))
        if chance < 0.2:
            items.append(items[at])
        elif chance < 0.3:
            del items[at]
        else:
            items[at] = _mutate_value(items[at], draw)
        return items
    return draw.choice(VALUES)


def _mutate_bytes(source: bytes, draw: random.Random) -> bytes:
    out = bytearray(source)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(out) + 1)
        match draw.randrange(6):
            case 0:
                out[at:at] = draw.choice(TOKENS)
            case 1:
                del out[at : at + draw.randint(1, 20)]
            case 2:
                out[at : at + 1] = bytes([draw.randrange(256)])
            case 3:
                start = draw.randrange(len(out) + 1)
                out[at:at] = out[start : start + draw.randint(1, 60)]
            case 4:
                out[at : at + draw.randint(1, 8)] = draw.choice(TOKENS)
            case _:
                if draw.random() < 0.3:
                    del out[at:]
    return bytes(out)


def _mutate_events(source: bytes, draw: random.Random) -> bytes:
    events = source.split(b"\n\n")
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(events))
        chance = draw.random()
        if chance < 0.2:
            events.insert(at, draw.choice(events))
        elif chance < 0.3 and len(events) > 1:
            del events[at]
        else:
            head, mark, data = events[at].partition(b"data: ")
            if mark:
                events[at] = head + mark + _mutate_document(data, draw)
    return draw.choice([b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r"]).join(events)
