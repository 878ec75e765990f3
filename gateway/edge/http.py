"""Reads JSON bodies from clients and sends responses to them."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from gateway.operations.http_api import (
    BODY_TIMEOUT_S,
    MAX_BODY_BYTES,
    Response,
    check_content_type,
    complete_headers,
    decode_json,
)
from gateway.pipeline.client.channel import ClientChannel

Shape = TypeVar("Shape")


async def read_json(channel: ClientChannel, shape: type[Shape]) -> Shape:
    """
    Return the body as `shape`, a struct that forbids unknown fields.

    Raises:
        GatewayError: BAD_REQUEST naming the field, CONTENT_TYPE, BODY_TOO_LARGE, BODY_TIMEOUT,
            CLIENT_GONE.
    """
    kind = channel.header(b"content-type")
    check_content_type(kind)  # before the body is read
    task = asyncio.current_task()
    assert task is not None
    return decode_json(await channel.read_body(MAX_BODY_BYTES, BODY_TIMEOUT_S, task), kind, shape)


async def send_response(channel: ClientChannel, response: Response, request_id: str) -> None:
    """Send a response, without its body if the request is HEAD."""
    body = b"" if channel.scope["method"] == "HEAD" else response.body
    await channel.respond_early(response.status, complete_headers(response, request_id), body)
