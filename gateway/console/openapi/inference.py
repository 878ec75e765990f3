"""The operations that call models."""

from __future__ import annotations

from typing import Any, Final

from gateway.console.openapi.errors import INFERENCE_ERRORS, READ_ERRORS
from gateway.console.openapi.operation import Example, Operation, Parameter, Success
from gateway.console.openapi.shapes.chat import (
    ChatChunk,
    ChatRequest,
    ChatResponse,
    EmbeddingsRequest,
    EmbeddingsResponse,
)
from gateway.console.openapi.shapes.messages import (
    MessagesEvent,
    MessagesRequest,
    MessagesResponse,
    TokenCount,
    TokenCountRequest,
)
from gateway.console.openapi.shapes.responses import (
    DeletedResponse,
    InputItems,
    NativeRequest,
    NativeResponse,
    ResponsesEvent,
    ResponsesRequest,
    ResponsesResponse,
)
from gateway.core.model import Wire
from gateway.errors import ErrorKind

GENERATE: Final = "Generate"
KEPT: Final = "Stored responses"

IDEMPOTENCY: Final = Parameter(
    "Idempotency-Key",
    "header",
    "1 to 255 visible characters. Requests with the same key run and are charged once.",
)
ROUTING: Final = (
    Parameter(
        "x-capio-fallbacks",
        "header",
        "Models, separated by commas, to serve the call if no deployment of `model` can.",
    ),
    Parameter("x-capio-prefer", "header", "`cost`, `latency`, a provider or a tag."),
    Parameter("x-capio-only", "header", "The only providers or tags to use, separated by commas."),
    Parameter("x-capio-exclude", "header", "Providers or tags, separated by commas, to avoid."),
)
_HEADERS: Final = (IDEMPOTENCY, *ROUTING)
_VERSION: Final = Parameter(
    "anthropic-version", "header", "The API's version, such as `2023-06-01`; may be absent."
)
_RESPONSE_ID: Final = Parameter("id", "path", "Id of the response: `resp_...`.")
_KEPT_ERRORS: Final = (
    *(kind for kind in READ_ERRORS if kind is not ErrorKind.FORBIDDEN),
    ErrorKind.RESPONSE_NOT_FOUND,
)
_CHAT: Final[dict[str, Any]] = {
    "id": "chatcmpl-demo1",
    "object": "chat.completion",
    "created": 1795000000,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! How can I help?"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16},
}
_MESSAGE: Final[dict[str, Any]] = {
    "id": "msg_demo1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hello! How can I help?"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 7},
}
_OUTPUT: Final[dict[str, Any]] = {
    "id": "msg_68af4030",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello! How can I help?", "annotations": []}],
}


def inference_operations(model: str) -> tuple[Operation, ...]:
    """Return the operations that call models, with examples for `model`."""
    hello = {"role": "user", "content": "Hello"}
    return (
        Operation(
            id="create_chat_completion",
            method="POST",
            path="/v1/chat/completions",
            title="Create a chat completion",
            tag=GENERATE,
            description="OpenAI's Chat Completions, over any model. If the model's provider has"
            " the same API, the request is relayed unchanged except for the model's name; otherwise"
            " it is translated, and `x-capio-dropped` names the dropped fields. With"
            " `stream` the usage is always recorded, and sent if the request asks for it.",
            request=ChatRequest,
            success=Success(ChatResponse, "The completion.", event=ChatChunk),
            errors=INFERENCE_ERRORS,
            parameters=_HEADERS,
            example=Example(
                body={"model": model, "messages": [hello]}, response={**_CHAT, "model": model}
            ),
        ),
        *_messages(model),
        *_responses(model),
        _embeddings(),
        _native(model),
    )


def _messages(model: str) -> tuple[Operation, ...]:
    hello = {"role": "user", "content": "Hello"}
    return (
        Operation(
            id="create_message",
            method="POST",
            path="/v1/messages",
            title="Create a message",
            tag=GENERATE,
            description="Anthropic's Messages, over any model. The base URL of Anthropic's clients"
            " has no `/v1`. If the model's provider has the same API, the request is relayed"
            " unchanged except for the model's name; otherwise it is translated, and"
            " `x-capio-dropped` names the dropped fields.",
            request=MessagesRequest,
            success=Success(MessagesResponse, "The message.", event=MessagesEvent),
            errors=INFERENCE_ERRORS,
            parameters=(_VERSION, *_HEADERS),
            wire=Wire.ANTHROPIC,
            example=Example(
                body={"model": model, "max_tokens": 1024, "messages": [hello]},
                response={**_MESSAGE, "model": model},
            ),
        ),
        Operation(
            id="count_message_tokens",
            method="POST",
            path="/v1/messages/count_tokens",
            title="Count the tokens of a message",
            tag=GENERATE,
            description="The input tokens of a Messages request. The provider counts if it can;"
            " otherwise the gateway estimates, with the header"
            " `x-capio-token-count: estimated`. Free of charge.",
            request=TokenCountRequest,
            success=Success(TokenCount, "The count."),
            errors=INFERENCE_ERRORS,
            parameters=(_VERSION,),
            wire=Wire.ANTHROPIC,
            example=Example(
                body={"model": model, "messages": [hello]}, response={"input_tokens": 9}
            ),
        ),
    )


def _responses(model: str) -> tuple[Operation, ...]:
    create = Operation(
        id="create_response",
        method="POST",
        path="/v1/responses",
        title="Create a response",
        tag=GENERATE,
        description="OpenAI's Responses, over any model. Responses are stored for a limited time,"
        " encrypted under the client's key, so that `previous_response_id` can continue them;"
        ' `"store": false` stores nothing. Conversations and prompts stored at OpenAI are not'
        " supported.",
        request=ResponsesRequest,
        success=Success(ResponsesResponse, "The response.", event=ResponsesEvent),
        errors=(*INFERENCE_ERRORS, ErrorKind.RESPONSE_NOT_FOUND),
        parameters=_HEADERS,
        example=Example(body={"model": model, "input": "Hello"}, response=_response(model)),
    )
    return (create, _get_response(model), _input_items(), _delete_response())


def _input_items() -> Operation:
    return Operation(
        id="list_input_items",
        method="GET",
        path="/v1/responses/{id}/input_items",
        title="List the input of a response",
        tag=KEPT,
        description="The input items of a stored response, newest first.",
        success=Success(InputItems, "One page of items."),
        errors=_KEPT_ERRORS,
        parameters=(
            _RESPONSE_ID,
            Parameter("limit", "query", "Items per page, 1 to 100; default 20.", "integer"),
            Parameter("order", "query", "Default `desc`.", allowed=("asc", "desc")),
            Parameter("after", "query", "The last item of the previous page."),
        ),
        example=Example(
            path={"id": "resp_68af4030"},
            query={"limit": "10"},
            response={
                "object": "list",
                "data": [
                    {
                        "id": "msg_68af402f",
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "Hello"}],
                    }
                ],
                "first_id": "msg_68af402f",
                "last_id": "msg_68af402f",
                "has_more": False,
            },
        ),
    )


def _delete_response() -> Operation:
    return Operation(
        id="delete_response",
        method="DELETE",
        path="/v1/responses/{id}",
        title="Delete a response",
        tag=KEPT,
        description="Deletes a stored response and its input. Later requests cannot continue it.",
        success=Success(DeletedResponse, "The response is deleted."),
        errors=_KEPT_ERRORS,
        parameters=(_RESPONSE_ID,),
        example=Example(
            path={"id": "resp_68af4030"},
            response={"id": "resp_68af4030", "object": "response", "deleted": True},
        ),
    )


def _response(model: str) -> dict[str, Any]:
    return {
        "id": "resp_68af4030",
        "object": "response",
        "created_at": 1795000000,
        "status": "completed",
        "model": model,
        "output": [_OUTPUT],
        "store": True,
        "usage": {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16},
    }


def _get_response(model: str) -> Operation:
    return Operation(
        id="get_response",
        method="GET",
        path="/v1/responses/{id}",
        title="Get a response",
        tag=KEPT,
        description="A stored response, as it was sent. Only the key that created it can read it.",
        success=Success(ResponsesResponse, "The response."),
        errors=_KEPT_ERRORS,
        parameters=(
            _RESPONSE_ID,
            Parameter(
                "stream",
                "query",
                "Return the response's events as a stream.",
                allowed=("true", "false"),
            ),
            Parameter(
                "starting_after", "query", "Start after the event with this number.", "integer"
            ),
        ),
        example=Example(path={"id": "resp_68af4030"}, response=_response(model)),
    )


def _embeddings() -> Operation:
    return Operation(
        id="create_embeddings",
        method="POST",
        path="/v1/embeddings",
        title="Create embeddings",
        tag=GENERATE,
        description="OpenAI's Embeddings, relayed to models whose provider has that API.",
        request=EmbeddingsRequest,
        success=Success(EmbeddingsResponse, "The embeddings."),
        errors=INFERENCE_ERRORS,
        parameters=_HEADERS,
        example=Example(
            body={"model": "text-embedding-3-small", "input": "Hello"},
            response={
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093]}],
                "model": "text-embedding-3-small",
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            },
        ),
    )


def _native(model: str) -> Operation:
    return Operation(
        id="create_chat",
        method="POST",
        path="/v1/chat",
        title="Generate text",
        tag=GENERATE,
        description="Plain text in, plain text out, over any model. Not streamed.",
        request=NativeRequest,
        success=Success(NativeResponse, "The text."),
        errors=INFERENCE_ERRORS,
        parameters=_HEADERS,
        example=Example(
            body={"model": model, "input": "Tell me a short joke."},
            response={
                "id": "0c2b1f9e-5d0a-4a4b-8f57-3f1c1b9a7d11",
                "model": model,
                "result": {"text": "I would tell you a UDP joke, but you might not get it."},
                "usage": {
                    "input_tokens": 12,
                    "output_tokens": 15,
                    "total_tokens": 27,
                    "cached_tokens": 0,
                    "charged_tokens": 27,
                },
            },
        ),
    )
