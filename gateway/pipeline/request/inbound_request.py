"""
The client's request in one of the two dialects that upstreams speak.

Chat and Messages bodies are unchanged. The Responses API and the native endpoint are façades over
chat completions: their request is translated to a chat request, and the chat response back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.core.model import Model, Wire
from gateway.protocols.http.request.bounds import (
    DEFAULT_BOUNDS,
    RequestBounds,
)
from gateway.protocols.http.request.call_fields import CallFields
from gateway.protocols.http.request.model_fallbacks import Fallback
from gateway.protocols.native_chat import (
    NativeRequest,
    chat_request,
    native_response,
)
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_dialect.request import fit_chat
from gateway.protocols.translate.stream import StreamTranslator, TranslationRoute
from gateway.tokens.input_bound import input_token_bound, may_cache_for_an_hour

Reshape = Callable[[bytes], bytes]

_MEMBERS = msgspec.json.Decoder(dict[str, Any])


class InboundRequest(msgspec.Struct, kw_only=True):
    """One request, ready for any deployment."""

    wire: Wire
    """The dialect of `body`."""
    body: bytes
    fields: CallFields
    dropped: tuple[str, ...] = ()
    original: bytes = b""
    """The Responses request that `body` was translated from."""
    responses: ResponsesContext | None = None
    native: NativeRequest | None = None
    bounds: RequestBounds = DEFAULT_BOUNDS
    fallbacks: tuple[Fallback, ...] = ()
    """Models that the client names as fallbacks."""

    def release_body(self) -> None:
        """Free the bodies, which may be megabytes; there is no retry after the response head."""
        self.body = self.original = b""

    def keep_as(self, token: str, previous_response_id: str | None, *, store: bool) -> None:
        """Derive the ids of the response and its items from `token`; `store` it or not."""
        if self.responses is not None:
            self.responses = msgspec.structs.replace(
                self.responses, token=token, previous_response_id=previous_response_id, store=store
            )

    def input_bound(self) -> int | None:
        """Return an upper bound of the input's tokens; None: only the model's context bounds it."""
        return input_token_bound(self.body)

    def hour_cache(self) -> bool:
        """Return whether the input may be written to a one-hour cache."""
        return may_cache_for_an_hour(self.body)

    @property
    def is_facade(self) -> bool:
        """Whether `body` is a translation, since the client's API is neither dialect."""
        return self.responses is not None or self.native is not None

    def chat_body(self, route: TranslationRoute) -> tuple[bytes, tuple[str, ...]]:
        """Return a façade's chat request for an upstream, and its dropped fields."""
        if self.native is not None:
            body = chat_request(
                self.native,
                model=route.upstream_model,
                limit_field=route.caps.max_tokens_param,
                min_output_tokens=route.caps.min_output_tokens,
            )
            return body, ()
        members = _MEMBERS.decode(self.body)
        dropped = fit_chat(members, route)
        return msgspec.json.encode(members), dropped

    def stream_translator(self, caps: Capabilities) -> StreamTranslator | None:
        """Return a new translator from the chat stream to the client's; None if not needed."""
        return responses_stream(self.responses, caps) if self.responses is not None else None

    def reshape(self, model: Model, caps: Capabilities) -> tuple[Reshape, ...]:
        """Return the steps from a whole chat response to the client's; empty if not needed."""
        if self.responses is not None:
            context = self.responses
            return (lambda body: translate_responses_response(body, context, caps),)
        if self.native is not None:
            asked = self.native.model
            return (
                lambda body: native_response(
                    body,
                    response_id=str(uuid.uuid4()),
                    model=asked,
                    prices=model.prices,
                    caps=caps,
                ),
            )
        return ()
