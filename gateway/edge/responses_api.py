"""
Stored responses: `/v1/responses/{id}` and `/v1/responses/{id}/input_items`.

A response can be read only with the API key that created it.
"""

from __future__ import annotations

import time
from typing import Final

from msgspec import Raw

from gateway.core.stored_responses import ResponseSealer
from gateway.edge.http import send_response
from gateway.edge.routes import INPUT_ITEMS, RESPONSES
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import Query, Response, json_response
from gateway.operations.throttle import Throttle
from gateway.operations.values import InvalidValueError, is_number
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.offload import offloaded_if_long
from gateway.pipeline.stored.conversations import Conversations
from gateway.protocols.openai_responses.stored.replay import replayed

READS_A_MINUTE = 600  # of one account, per worker
MOST_BYTES: Final = 32 * 1024 * 1024  # of a conversation whose items are listed
DEFAULT_ITEMS: Final = 20
MOST_ITEMS: Final = 100

_IGNORED: Final = ("include", "include[]")  # everything that is stored is returned
_STREAMED: Final = ("stream", "starting_after", "include_obfuscation")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"),)
_MOST_DIGITS: Final = 9


class ResponsesApi:
    """
    Handles requests for stored responses.

    Args:
        authenticator: Checks keys.
        conversations: The stored responses; None: none are stored.
    """

    def __init__(self, authenticator: Authenticator, conversations: Conversations | None) -> None:
        self._authenticator = authenticator
        self._conversations = conversations
        self._reads = Throttle(READS_A_MINUTE, time.monotonic)

    async def handle(self, channel: ClientChannel, path: str, request_id: str) -> None:
        """
        Respond to one request.

        Args:
            channel: The request.
            path: The path as sent, not decoded.
            request_id: The request's id.

        Raises:
            GatewayError: The key or a parameter is invalid, there is no such response, or Redis is
                unavailable.
        """
        sealer = await self._authenticator.sealer(channel)
        self._reads.check(sealer.account_id)
        self._reads.count(sealer.account_id)
        wanted = path.removeprefix(RESPONSES).removesuffix(INPUT_ITEMS)
        if self._conversations is None:
            raise GatewayError(
                ErrorKind.RESPONSE_NOT_FOUND,
                "This gateway stores no responses: keep what the request returned.",
            )
        if path.endswith(INPUT_ITEMS):
            response = await self._input_items(channel, self._conversations, sealer, wanted)
        elif channel.scope["method"] == "DELETE":
            Query(channel.scope["query_string"], ())
            await self._conversations.delete(sealer, wanted)
            response = json_response({"id": wanted, "object": "response", "deleted": True})
        else:
            query = Query(channel.scope["query_string"], (*_IGNORED, *_STREAMED))
            streamed = query.words("stream", ("true", "false"), ("false",))[0] == "true"
            after = _starting_after(query, streamed=streamed)
            response = Response(body=await self._conversations.response(sealer, wanted))
            if streamed:
                body = response.body
                events = await offloaded_if_long(len(body), replayed, body, after)
                response = Response(body=events, headers=_EVENTS)
        await send_response(channel, response, request_id)

    async def _input_items(
        self,
        channel: ClientChannel,
        conversations: Conversations,
        sealer: ResponseSealer,
        wanted: str,
    ) -> Response:
        query = Query(channel.scope["query_string"], ("limit", "order", "after", *_IGNORED))
        limit = query.number("limit", DEFAULT_ITEMS, MOST_ITEMS)
        (order,) = query.words("order", ("asc", "desc"), ("desc",))[:1]
        items = await conversations.input_items(sealer, wanted, MOST_BYTES)
        if order == "desc":
            items.reverse()
        after = query.text("after")
        start = 0
        if after is not None:
            start = 1 + next((i for i, (item_id, _) in enumerate(items) if item_id == after), -2)
            if start < 0:
                raise InvalidValueError("after", "must be the id of an item of this response")
        page = items[start : start + limit]
        return json_response(
            {
                "object": "list",
                "data": [Raw(item) for _, item in page],
                "first_id": page[0][0] if page else None,
                "last_id": page[-1][0] if page else None,
                "has_more": start + limit < len(items),
            }
        )


def _starting_after(query: Query, *, streamed: bool) -> int | None:
    text = query.text("starting_after")
    if text is None:
        return None
    if not streamed:
        raise InvalidValueError("starting_after", "requires stream=true")
    if not is_number(text) or len(text) > _MOST_DIGITS:
        raise InvalidValueError("starting_after", "must be a whole number of at most 9 digits")
    return int(text)
