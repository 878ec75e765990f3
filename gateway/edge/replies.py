"""Whole answers of pages: JSON or CSV, with the id of the request."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import msgspec

from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers

_encode = msgspec.json.Encoder().encode


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is not sent yet."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    """All but the length and the id."""


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a value as a JSON answer."""
    return Reply(body=_encode(value), status=status)


def list_reply(rows: Sequence[object], limit: int, last: object) -> Reply:
    """
    Return one page of a list.

    Args:
        rows: At most `limit`.
        limit: What was asked for; a full page may have another one after it.
        last: By which the next page is asked for: of the last row.
    """
    has_more = len(rows) >= limit
    following = last if has_more and rows else None
    return json_reply({"object": "list", "data": rows, "has_more": has_more, "next": following})


def csv_reply(rows: Sequence[Mapping[str, object]], columns: Sequence[str], name: str) -> Reply:
    """Return rows as a CSV answer with a head, to be saved as `name`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return Reply(
        body=text.getvalue().encode(),
        headers=(
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        ),
    )


async def send_reply(channel: ClientChannel, reply: Reply, request_id: str) -> None:
    """Send an answer; of a HEAD request only its head."""
    headers: Headers = [
        *reply.headers,
        (b"content-length", str(len(reply.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"request-id", request_id.encode()),
        (b"x-request-id", request_id.encode()),
    ]
    body = b"" if channel.scope["method"] == "HEAD" else reply.body
    await channel.drain()
    await channel.respond(reply.status, headers, body)
