"""OpenAI's own Python SDK against the gateway, over both upstream wires."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.raw_client import Connection
from tests.support.service import ANTHROPIC_MODEL, BOTH_MODEL, HELLO, OPENAI_MODEL, Key, Service

pytestmark = pytest.mark.process

MODELS = pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL, BOTH_MODEL])
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CALL = '/tool weather {"city": "Zürich, ZH", "days": 3}'


@pytest.fixture
def client(gateway: Service, key: Key) -> Iterator[openai.OpenAI]:
    """The SDK's blocking client, without retries of its own."""
    with openai.OpenAI(api_key=key.raw, base_url=f"{gateway.url}/v1", max_retries=0) as made:
        yield made


@pytest.fixture
async def aclient(gateway: Service, key: Key) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK's asyncio client, without retries of its own."""
    made = openai.AsyncOpenAI(api_key=key.raw, base_url=f"{gateway.url}/v1", max_retries=0)
    async with made:
        yield made


def said(text: str, **more: Any) -> dict[str, Any]:
    """Return the arguments of a call that says one thing."""
    return {"messages": [{"role": "user", "content": text}], **more}


@MODELS
def test_completion_has_text_usage_and_ids(client: openai.OpenAI, model: str) -> None:
    """The response is whole, its tokens are counted, its request id can be quoted."""
    answer = client.chat.completions.create(model=model, messages=HI)

    choice = answer.choices[0]
    assert (choice.message.content or "").startswith(HELLO)
    assert (choice.finish_reason, answer.model) == ("stop", model)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 10
    assert answer._request_id


@MODELS
async def test_async_completion_has_text(aclient: openai.AsyncOpenAI, model: str) -> None:
    """As the blocking client."""
    answer = await aclient.chat.completions.create(model=f"capio/{model}", messages=HI)

    assert (answer.choices[0].message.content or "").startswith(HELLO)


@MODELS
def test_stream_brings_text_and_no_usage_unasked(client: openai.OpenAI, model: str) -> None:
    """A client that did not request usage gets no chunk without choices."""
    chunks = [*client.chat.completions.create(model=model, messages=HI, stream=True)]

    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith(HELLO)
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"


@MODELS
async def test_async_stream_with_usage_asked_ends_with_it(
    aclient: openai.AsyncOpenAI, model: str
) -> None:
    """The usage comes once, last, in a chunk without choices."""
    stream = await aclient.chat.completions.create(
        model=model, messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert [bool(chunk.usage) for chunk in chunks].count(True) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 10


@MODELS
def test_stream_helper_gathers_the_completion(client: openai.OpenAI, model: str) -> None:
    """`chat.completions.stream` reads events and has the final message."""
    with client.chat.completions.stream(model=model, messages=HI) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert (final.choices[0].message.content or "").startswith(HELLO)


@MODELS
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_is_called_and_its_result_answered(
    client: openai.OpenAI, model: str, streamed: bool
) -> None:
    """Arguments come whole, the call's id goes back with the result, the model goes on."""
    asked = said(CALL, model=model, tools=[WEATHER])
    if streamed:
        with client.chat.completions.stream(**asked) as stream:
            first = stream.get_final_completion()
    else:
        first = client.chat.completions.create(**asked)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Zürich, ZH", "days": 3}

    turns: list[Any] = [
        *asked["messages"],
        message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = client.chat.completions.create(model=model, tools=[WEATHER], messages=turns)

    assert (second.choices[0].message.content or "").startswith("The tool has responded")


@MODELS
@pytest.mark.parametrize("streamed", [False, True])
def test_reasoning_comes_as_reasoning_content(
    client: openai.OpenAI, model: str, streamed: bool
) -> None:
    """What the model thinks stands apart from what it says."""
    asked = said("/think", model=model)
    if streamed:
        deltas = [
            chunk.choices[0].delta
            for chunk in client.chat.completions.create(**asked, stream=True)
            if chunk.choices
        ]
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        text = "".join(delta.content or "" for delta in deltas)
    else:
        message = client.chat.completions.create(**asked).choices[0].message
        thought, text = getattr(message, "reasoning_content", ""), message.content or ""

    assert thought.startswith("The client is trying out the gateway")
    assert text.startswith(HELLO)


@MODELS
def test_limit_of_tokens_ends_the_answer_with_length(client: openai.OpenAI, model: str) -> None:
    """`max_tokens` reaches the upstream, and why it ended comes back."""
    answer = client.chat.completions.create(model=model, messages=HI, max_tokens=3)

    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "Hello from the "


@MODELS
def test_responses_api_answers_text(client: openai.OpenAI, model: str) -> None:
    """`responses.create` works over any model."""
    answer = client.responses.create(model=model, input="Hi")

    assert answer.output_text.startswith(HELLO)
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.output_tokens > 10


@MODELS
async def test_responses_api_streams_events(aclient: openai.AsyncOpenAI, model: str) -> None:
    """Events are numbered without a gap and end with the completed response."""
    stream = await aclient.responses.create(model=model, input="Hi", stream=True)
    events = [event async for event in stream]

    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == [*range(len(events))]
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text.startswith(HELLO)
    assert events[-1].response.output_text == text


@MODELS
def test_responses_api_calls_a_tool(client: openai.OpenAI, model: str) -> None:
    """A function call of the Responses API has name, arguments and an id to respond with."""
    tool: Any = {"type": "function", "strict": False, **WEATHER["function"]}
    first = client.responses.create(model=model, input=CALL, tools=[tool])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Zürich, ZH", "days": 3}

    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    turn: Any = [{"role": "user", "content": CALL}, *first.output, result]
    second = client.responses.create(model=model, input=turn, tools=[tool])

    assert second.output_text.startswith("The tool has responded")


def test_embeddings_are_relayed(client: openai.OpenAI) -> None:
    """Vectors come back for every input."""
    answer = client.embeddings.create(
        model=OPENAI_MODEL, input=["one", "two"], encoding_format="float"
    )

    assert [len(row.embedding) for row in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens > 0


def test_models_can_be_listed_and_retrieved(client: openai.OpenAI) -> None:
    """The list has every public name; one of them can be asked for, prefix included."""
    names = [model.id for model in client.models.list()]

    assert {OPENAI_MODEL, ANTHROPIC_MODEL, BOTH_MODEL} <= set(names)
    shown = client.models.retrieve(OPENAI_MODEL)
    assert (shown.id, shown.object) == (OPENAI_MODEL, "model")
    assert shown.created > 0
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_native_chat_answers_text(connection: Connection, key: Key) -> None:
    """`POST /v1/chat` takes plain text and gives plain text, with its usage."""
    for model in (OPENAI_MODEL, ANTHROPIC_MODEL):
        answer = connection.request(
            "POST",
            "/v1/chat",
            json.dumps({"model": f"capio/{model}", "input": "Hi"}).encode(),
            authorization=f"Bearer {key.raw}",
        )

        assert answer.status == 200
        assert answer.json["result"]["text"].startswith(HELLO)
        assert answer.json["model"] == f"capio/{model}"
        assert set(answer.json["usage"]) == {
            "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "charged_tokens",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "status", "error"),
    [
        (OPENAI_MODEL, 400, openai.BadRequestError),
        (OPENAI_MODEL, 422, openai.UnprocessableEntityError),
        (OPENAI_MODEL, 429, openai.RateLimitError),
        (OPENAI_MODEL, 500, openai.InternalServerError),
        (OPENAI_MODEL, 503, openai.InternalServerError),
        (ANTHROPIC_MODEL, 400, openai.BadRequestError),
        (ANTHROPIC_MODEL, 429, openai.RateLimitError),
        (ANTHROPIC_MODEL, 500, openai.InternalServerError),
        (ANTHROPIC_MODEL, 529, openai.InternalServerError),
        (ANTHROPIC_MODEL, 404, openai.NotFoundError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_upstream_refusal_raises_the_sdks_own_error(
    client: openai.OpenAI,
    model: str,
    status: int,
    error: type[openai.APIStatusError],
    streamed: bool,
) -> None:
    """A failure before the first byte is an HTTP status, also of a stream."""
    with pytest.raises(error) as raised:
        client.chat.completions.create(**said(f"/error {status}", model=model, stream=streamed))

    assert raised.value.status_code == (503 if status == 529 else status)
    assert raised.value.type
    assert raised.value.request_id


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_upstream_refusal_of_the_gateways_account_is_not_the_clients_fault(
    client: openai.OpenAI, model: str, status: int
) -> None:
    """A rejected upstream credential is a server error without a retry, not a 401."""
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(**said(f"/error {status}", model=model))

    assert raised.value.response.headers["x-should-retry"] == "false"


def test_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    """The error names the model and the field."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="capio/gpt-9", messages=HI)

    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    assert "capio/gpt-9" in raised.value.message


def test_wrong_key_is_refused_and_not_tried_again(gateway: Service) -> None:
    """`x-should-retry: false` keeps the SDK from hammering: one request, then the error."""
    sent: list[httpx2.Request] = []
    http = httpx2.Client(event_hooks={"request": [sent.append]})
    with (
        openai.OpenAI(
            api_key="sk-capio-live-wrong", base_url=f"{gateway.url}/v1", http_client=http
        ) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.chat.completions.create(model=OPENAI_MODEL, messages=HI)

    assert (raised.value.code, len(sent)) == ("invalid_key", 1)
    assert raised.value.response.headers["x-should-retry"] == "false"


@MODELS
@pytest.mark.parametrize("fault", ["/break 3", "/cut 3"])
def test_stream_that_breaks_raises(client: openai.OpenAI, model: str, fault: str) -> None:
    """Neither a broken connection nor a silent end of the upstream looks like a whole response."""
    chunks: list[Any] = []
    with pytest.raises((openai.APIError, httpx2.HTTPError)):
        chunks.extend(client.chat.completions.create(**said(fault, model=model), stream=True))

    assert not any(c.choices[0].finish_reason for c in chunks if c.choices)
