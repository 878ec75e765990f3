"""A whole chat completion as a Responses answer: what the last event of the stream would hold."""

from __future__ import annotations

from gateway.protocols.openai_chat.response import read_response
from gateway.protocols.openai_chat.usage import read_chat_usage
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.items import EventWriter
from gateway.protocols.openai_responses.output import OutputBuilder, final_response


def translate_responses_response(body: bytes, context: ResponsesContext) -> bytes:
    """
    Return the response object for a chat completion.

    Args:
        body: The upstream's answer, or its translation, in chat-completions form.
        context: Of the request, `created` set.

    Raises:
        GatewayError: UPSTREAM_MALFORMED, OVERLOADED or UPSTREAM_REFUSED, see
            `chat_answer.read_response`.
    """
    answer, choice, message = read_response(body)
    builder = OutputBuilder(EventWriter(), context, answer.id or "")
    builder.add(message)
    builder.close()
    usage = read_chat_usage(answer.usage or choice.usage)
    return final_response(context, builder, choice.finish_reason, usage)[1]
