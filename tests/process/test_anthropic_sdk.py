"""Anthropic's own Python SDK against the gateway, over both upstream wires."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import beta_tool
from anthropic.types import MessageParam

from tests.support.service import ANTHROPIC_MODEL, BOTH_MODEL, HELLO, OPENAI_MODEL, Key, Service

pytestmark = pytest.mark.process

MODELS = pytest.mark.parametrize("model", [ANTHROPIC_MODEL, OPENAI_MODEL, BOTH_MODEL])
HI: list[MessageParam] = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CALL = '/tool weather {"city": "Zürich, ZH", "days": 3}'


@pytest.fixture
def client(gateway: Service, key: Key) -> Iterator[anthropic.Anthropic]:
    """The SDK's blocking client, without retries of its own."""
    with anthropic.Anthropic(api_key=key.raw, base_url=gateway.url, max_retries=0) as made:
        yield made


@pytest.fixture
async def aclient(gateway: Service, key: Key) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK's asyncio client, without retries of its own."""
    made = anthropic.AsyncAnthropic(api_key=key.raw, base_url=gateway.url, max_retries=0)
    async with made:
        yield made


def said(text: str, **more: Any) -> dict[str, Any]:
    """Return the arguments of a call that says one thing."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 2000, **more}


def text_of(message: Any) -> str:
    """Return what a message says."""
    return "".join(block.text for block in message.content if block.type == "text")


@MODELS
def test_message_has_text_usage_and_ids(client: anthropic.Anthropic, model: str) -> None:
    """The response is whole, its tokens are counted, its request id can be quoted."""
    answer = client.messages.create(model=model, messages=HI, max_tokens=1000)

    assert text_of(answer).startswith(HELLO)
    assert (answer.stop_reason, answer.model) == ("end_turn", model)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 10
    assert answer._request_id


@MODELS
async def test_async_message_has_text(aclient: anthropic.AsyncAnthropic, model: str) -> None:
    """As the blocking client."""
    answer = await aclient.messages.create(model=f"capio/{model}", messages=HI, max_tokens=1000)

    assert text_of(answer).startswith(HELLO)


@MODELS
def test_raw_stream_has_each_event_once_and_in_order(
    client: anthropic.Anthropic, model: str
) -> None:
    """One start, blocks opened and closed, one delta with the usage, one stop."""
    stream = client.messages.create(model=model, messages=HI, max_tokens=1000, stream=True)
    events = [event for event in stream if event.type != "ping"]

    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert events[-2].type == "message_delta"
    assert events[-2].usage.output_tokens > 10


@MODELS
async def test_stream_helper_gathers_the_message(
    aclient: anthropic.AsyncAnthropic, model: str
) -> None:
    """`messages.stream` gives text as it comes and the whole message at the end."""
    async with aclient.messages.stream(model=model, messages=HI, max_tokens=1000) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()

    assert text.startswith(HELLO)
    assert text_of(final) == text
    assert final.stop_reason == "end_turn"


@MODELS
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_is_called_and_its_result_answered(
    client: anthropic.Anthropic, model: str, streamed: bool
) -> None:
    """The input comes whole, the call's id goes back with the result, the model goes on."""
    asked = said(CALL, model=model, tools=[WEATHER])
    if streamed:
        with client.messages.stream(**asked) as stream:
            first = stream.get_final_message()
    else:
        first = client.messages.create(**asked)
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "Zürich, ZH", "days": 3})

    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    second = client.messages.create(
        model=model,
        max_tokens=1000,
        tools=[WEATHER],
        messages=[
            *asked["messages"],
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
    )

    assert text_of(second).startswith("The tool has responded")


@MODELS
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_runner_runs_the_tool_and_finishes(
    client: anthropic.Anthropic, model: str, streamed: bool
) -> None:
    """The SDK's own loop (`?beta=true`) calls the function and gets the last response."""
    cities: list[str] = []

    @beta_tool
    def weather(city: str) -> str:
        """
        Look up the weather.

        Args:
            city: Where.
        """
        cities.append(city)
        return "sunny"

    asked = said('/tool weather {"city": "Oslo"}', model=model, tools=[weather])
    if streamed:
        turns = [*client.beta.messages.tool_runner(**asked, stream=True)]
        last = turns[-1].get_final_message()
    else:
        last = client.beta.messages.tool_runner(**asked).until_done()

    assert cities == ["Oslo"]
    assert text_of(last).startswith("The tool has responded")


@MODELS
@pytest.mark.parametrize("streamed", [False, True])
def test_thinking_comes_as_signed_blocks_and_can_be_sent_back(
    client: anthropic.Anthropic, model: str, streamed: bool
) -> None:
    """A thinking block has text and a signature; the history it becomes part of is accepted."""
    asked = said("/think", model=model, thinking={"type": "enabled", "budget_tokens": 1024})
    if streamed:
        with client.messages.stream(**asked) as stream:
            first = stream.get_final_message()
    else:
        first = client.messages.create(**asked)
    assert [block.type for block in first.content] == ["thinking", "text"]
    thinking = first.content[0]
    assert thinking.type == "thinking"
    assert thinking.thinking.startswith("The client is trying out the gateway")
    assert thinking.signature

    history: Any = [
        *asked["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "Again"},
    ]
    second = client.messages.create(**{**asked, "messages": history})

    assert text_of(second).startswith(HELLO)


@MODELS
def test_limit_of_tokens_ends_the_answer_with_max_tokens(
    client: anthropic.Anthropic, model: str
) -> None:
    """`max_tokens` reaches the upstream, and why it ended comes back."""
    answer = client.messages.create(model=model, messages=HI, max_tokens=3)

    assert (answer.stop_reason, text_of(answer)) == ("max_tokens", "Hello from the ")


@MODELS
def test_tokens_are_counted_for_every_model(client: anthropic.Anthropic, model: str) -> None:
    """By the upstream where it can, else by an estimate that says so."""
    answer = client.messages.with_raw_response.count_tokens(model=model, messages=HI)

    assert answer.parse().input_tokens > 0
    estimated = answer.headers.get("x-capio-token-count")
    assert estimated == ("estimated" if model == OPENAI_MODEL else None)


def test_models_can_be_listed_and_retrieved(client: anthropic.Anthropic) -> None:
    """The list is paged as the SDK expects; one model can be asked for."""
    page = client.models.list(limit=2)
    names = [model.id for model in page]

    assert len(page.data) == 2
    assert page.has_more
    assert {OPENAI_MODEL, ANTHROPIC_MODEL, BOTH_MODEL} <= set(names)
    shown = client.models.retrieve(ANTHROPIC_MODEL)
    assert (shown.id, shown.type) == (ANTHROPIC_MODEL, "model")
    assert shown.display_name
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.parametrize("model", [ANTHROPIC_MODEL, OPENAI_MODEL])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_upstream_refusal_raises_the_sdks_own_error(
    client: anthropic.Anthropic,
    model: str,
    status: int,
    error: type[anthropic.APIStatusError],
    streamed: bool,
) -> None:
    """A failure before the first byte is an HTTP status, also of a stream; 529 stays 529."""
    with pytest.raises(error) as raised:
        client.messages.create(**said(f"/error {status}", model=model, stream=streamed))

    assert raised.value.status_code == status
    body: Any = raised.value.body
    assert body["type"] == "error"
    assert raised.value.request_id


@pytest.mark.parametrize("model", [ANTHROPIC_MODEL, OPENAI_MODEL])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_upstream_refusal_of_the_gateways_account_is_not_the_clients_fault(
    client: anthropic.Anthropic, model: str, status: int
) -> None:
    """A rejected upstream credential is a server error without a retry, not a 401."""
    with pytest.raises((anthropic.InternalServerError, anthropic.OverloadedError)) as raised:
        client.messages.create(**said(f"/error {status}", model=model))

    assert raised.value.response.headers["x-should-retry"] == "false"


def test_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    """The error names the model as it was asked for."""
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.create(model="capio/claude-9", messages=HI, max_tokens=10)

    body: Any = raised.value.body
    assert body["error"] == {"type": "not_found_error", "message": "model: capio/claude-9"}


@pytest.mark.parametrize("header", ["api_key", "auth_token"])
def test_wrong_key_is_refused_and_not_tried_again(gateway: Service, header: str) -> None:
    """`x-should-retry: false` keeps the SDK from hammering: one request, then the error."""
    sent: list[httpx2.Request] = []
    http = httpx2.Client(event_hooks={"request": [sent.append]})
    credential: Any = {header: "sk-capio-live-wrong"}
    with (
        anthropic.Anthropic(base_url=gateway.url, http_client=http, **credential) as client,
        pytest.raises(anthropic.AuthenticationError) as raised,
    ):
        client.messages.create(model=ANTHROPIC_MODEL, messages=HI, max_tokens=10)

    assert len(sent) == 1
    assert raised.value.response.headers["x-should-retry"] == "false"


@MODELS
@pytest.mark.parametrize("fault", ["/break 3", "/cut 3"])
def test_stream_that_breaks_raises(client: anthropic.Anthropic, model: str, fault: str) -> None:
    """Neither a broken connection nor a silent end of the upstream looks like a whole response."""
    kinds: list[str] = []
    with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
        kinds.extend(
            e.type for e in client.messages.create(**said(fault, model=model), stream=True)
        )

    assert "message_stop" not in kinds
    assert "message_delta" not in kinds
