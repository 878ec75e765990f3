"""Translates a whole response of either wire to a response object of the Responses API."""

from __future__ import annotations

import msgspec

from gateway.protocols.openai_chat.lenient import read_response
from gateway.protocols.openai_chat.response import (
    CallFragment,
    Delta,
    FunctionFragment,
    reasoning_and_text,
)
from gateway.protocols.openai_chat.usage import ChatUsage, read_chat_usage
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.items import EventWriter
from gateway.protocols.openai_responses.output import OutputBuilder, final_response
from gateway.protocols.translate.capabilities import PLAIN, Capabilities
from gateway.protocols.translate.chat_to_messages.response import (
    CompletionMessage,
    read_completion,
)
from gateway.protocols.translate.stream import ResponseContext
from gateway.protocols.translate.think_tags import split_reasoning


def translate_responses_response(
    body: bytes, context: ResponsesContext, caps: Capabilities = PLAIN
) -> bytes:
    """
    Return the response object for a chat completion.

    Args:
        body: The upstream's response.
        context: Of the request, `created` set.
        caps: Of the upstream's dialect.

    Raises:
        GatewayError: UPSTREAM_MALFORMED, OVERLOADED or UPSTREAM_REFUSED, see `read_response`.
    """
    response, choice, message = read_response(body)
    if caps.think_tags or caps.think_opened:
        reasoning, text = reasoning_and_text(message)
        if not reasoning:
            reasoning, text = split_reasoning(text, opened=caps.think_opened)
            message.content, message.reasoning_content = text, reasoning
    usage = read_chat_usage(response.reported_usage, reasoning_apart=caps.reasoning_apart)
    return _written(response.id or "", message, choice.finish_reason, usage, context)


def translate_message(body: bytes, context: ResponsesContext, chat: ResponseContext) -> bytes:
    """
    Return the response object for an Anthropic message.

    Args:
        body: The upstream's response.
        context: Of the request, `created` set.
        chat: Of the chat request that was translated for the upstream.

    Raises:
        GatewayError: As `read_completion`.
    """
    completion = read_completion(body, chat)
    choice = completion.choices[0]
    usage = read_chat_usage(msgspec.to_builtins(completion.usage))
    return _written(completion.id, _delta(choice.message), choice.finish_reason, usage, context)


def _delta(message: CompletionMessage) -> Delta:
    details = message.reasoning_details
    return Delta(
        content=message.content,
        reasoning_content=message.reasoning_content or None,
        reasoning_details=[msgspec.to_builtins(detail) for detail in details or ()],
        refusal=message.refusal,
        tool_calls=[
            CallFragment(
                None, call.id, FunctionFragment(call.function.name, call.function.arguments)
            )
            for call in message.tool_calls or ()
        ],
    )


def _written(
    response_id: str,
    message: Delta,
    finish: str | None,
    usage: ChatUsage | None,
    context: ResponsesContext,
) -> bytes:
    builder = OutputBuilder(EventWriter(), context, response_id)
    for ordinal, call in enumerate(message.tool_calls or ()):
        call.index = ordinal  # each is a whole call, even if an id is repeated
    builder.add(message)
    builder.close()
    return final_response(context, builder, finish, usage)[1]
