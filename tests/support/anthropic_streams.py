"""Reading Anthropic streams in tests, and what must hold for every one of them."""

from __future__ import annotations

import json
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event


def read_events(written: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, each with its name and its data."""
    events = []
    for block in written.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        events.append({"event": name[7:], "data": json.loads(data[6:])})
    return events


def check_invariants(written: bytes) -> None:
    """
    Assert the shape that clients are tested against.

    One block open at a time, dense indexes, no delta outside its block, and exactly one
    message_delta and message_stop at the end, unless an error ends the stream.
    """
    events = read_events(written)
    if not events:
        return
    names = [event["event"] for event in events]
    assert all(event["data"]["type"] == event["event"] for event in events)
    assert names[0] == "message_start"
    assert names.count("message_start") == 1
    if "error" in names:
        assert names.index("error") == len(names) - 1
        assert "message_delta" not in names
        assert "message_stop" not in names
    else:
        assert names[-2:] == ["message_delta", "message_stop"]
        assert names.count("message_delta") == names.count("message_stop") == 1
    _check_blocks(events, failed=names[-1] == "error")


def _check_blocks(events: list[dict[str, Any]], *, failed: bool) -> None:
    current: int | None = None
    next_index = 0
    for event in events:
        data = event["data"]
        match event["event"]:
            case "content_block_start":
                assert current is None
                assert data["index"] == next_index
                current, next_index = next_index, next_index + 1
            case "content_block_delta":
                assert data["index"] == current
            case "content_block_stop":
                assert data["index"] == current
                current = None
    assert current is None or failed


def accumulate(written: bytes) -> dict[str, Any]:
    """Return the message that Anthropic's own SDK makes of the events before an error."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in read_events(written):
        if event["event"] not in ("error", "message_stop"):
            snapshot = accumulate_event(
                event=event["data"], current_snapshot=snapshot, json_bufs=buffers
            )
    return snapshot.to_dict()
