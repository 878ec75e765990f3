"""The native endpoint's request checks, chat form, and response."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Prices
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols import native_chat
from gateway.protocols.native_chat import (
    MEMBERS,
    NativeLimits,
    charged_tokens,
    chat_request,
    native_response,
    read_native_request,
    require_web_search,
)
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.translate.capabilities import DIALECTS

LIMITS = NativeLimits(max_retries=3, max_timeout_s=60)
PRICES = Prices(2_000_000_000, 8_000_000_000, 200_000_000, 2_000_000_000, 8_000_000_000)
FREE = Prices(0, 0, 0, 0, 0)


def request(**members: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hi"} | members).encode()


def answer(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return json.dumps({"id": "c", "choices": [choice]} | more).encode()


def text_of(body: bytes, **options: Any) -> str:
    made = json.loads(native_response(body, response_id="u", model="m", prices=PRICES, **options))
    return str(made["result"]["text"])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"input":"Hi"}', "missing_required_parameter", "model"),
        (b'{"model":"m"}', "missing_required_parameter", "input"),
        (b'{"model":1,"input":"Hi"}', "invalid_type", "model"),
        (b'{"model":null,"input":"Hi"}', "invalid_type", "model"),
        (b'{"model":"m","input":["Hi"]}', "invalid_type", "input"),
        (b'{"model":"","input":"Hi"}', "invalid_value", "model"),
        (b'{"model":"m","input":""}', "invalid_value", "input"),
        (request(temperature="1"), "invalid_type", "temperature"),
        (request(temperature=True), "invalid_type", "temperature"),
        (request(temperature=None), "invalid_type", "temperature"),
        (request(temperature=-0.1), "invalid_value", "temperature"),
        (request(temperature=10**300), "invalid_value", "temperature"),
        (request(max_output_tokens=1.5), "invalid_type", "max_output_tokens"),
        (request(max_output_tokens=True), "invalid_type", "max_output_tokens"),
        (request(max_output_tokens=0), "invalid_value", "max_output_tokens"),
        (request(max_output_tokens=10**30), "invalid_value", "max_output_tokens"),
        (request(max_retries="2"), "invalid_type", "max_retries"),
        (request(max_retries=-1), "invalid_value", "max_retries"),
        (request(max_retries=4), "invalid_value", "max_retries"),
        (request(timeout=[]), "invalid_type", "timeout"),
        (request(timeout=0), "invalid_value", "timeout"),
        (request(timeout=-1), "invalid_value", "timeout"),
        (request(timeout=60.1), "invalid_value", "timeout"),
        (request(web_search=1), "invalid_type", "web_search"),
        (request(messages=[]), "unknown_parameter", "messages"),
        (b"[]", None, None),
        (b"", None, None),
        (b'{"model":', None, None),
        (b'{"model":"m","input":"Hi","timeout":NaN}', None, None),
        (b'{"model":"m","input":"\xff"}', None, None),
        (b'{"model":"m","input":' + b"[" * 100_000, None, None),
    ],
)
def test_native_request_invalid_member_named_with_its_code(
    body: bytes, code: str | None, param: str | None
) -> None:
    """Each error has its own code and names its member."""
    with pytest.raises(GatewayError) as caught:
        read_native_request(body, LIMITS)

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert (caught.value.code, caught.value.param) == (code, param)


def test_native_request_every_member_arrives() -> None:
    """Values at the edge of their range are taken as they are."""
    body = request(temperature=0, max_output_tokens=1, max_retries=3, timeout=60, web_search=False)

    made = read_native_request(body, LIMITS)

    assert (made.model, made.input, made.temperature) == ("m", "Hi", 0)
    assert (made.max_output_tokens, made.max_retries, made.timeout_s) == (1, 3, 60)
    assert made.web_search is False


def test_native_request_half_emoji_is_mended() -> None:
    """A lone surrogate in the text is no reason to refuse."""
    made = read_native_request(rb'{"model":"m","input":"a\ud83d"}', LIMITS)

    assert made.input == "a\ufffd"


def test_web_search_needs_a_model_that_searches() -> None:
    """Web search is refused by name unless the catalogue says that the model searches."""
    made = read_native_request(request(web_search=True), LIMITS)

    require_web_search(made, model_searches=True)
    with pytest.raises(GatewayError) as caught:
        require_web_search(made, model_searches=False)

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "web_search")
    assert json.loads(chat_request(made, model="up"))["web_search_options"] == {}


def test_chat_request_limit_takes_the_dialects_name_and_floor() -> None:
    """The output limit is written under the upstream's name and raised to its least value."""
    made = read_native_request(request(max_output_tokens=5), LIMITS)

    chat = chat_request(made, model="up", limit_field="max_completion_tokens", min_output_tokens=16)

    assert json.loads(chat) == {
        "model": "up",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 16,
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Hi", "refusal": None}, "Hi"),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": "", "refusal": "No."}, "No."),
        ({"content": None}, ""),
        ({"content": "Hi", "reasoning_content": "secret"}, "Hi"),
        ({"content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}]}, "a"),
    ],
)
def test_native_answer_text_or_refusal(message: dict[str, Any], text: str) -> None:
    """The text is shown, else the refusal; reasoning never."""
    assert text_of(answer(message)) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>a\nb</think>\n\nHi", "Hi"),
        (" <mm:think>a</mm:think>Hi", "Hi"),
        ("<think>never closed", ""),
        ("Hi <think>a</think>", "Hi <think>a</think>"),
        ("why\n</think>\n\nHi", "Hi"),
    ],
)
def test_native_answer_think_tags_are_cut_where_the_dialect_has_them(
    content: str, text: str
) -> None:
    """A leading reasoning in tags is reasoning and is not shown."""
    assert text_of(answer({"content": content}), caps=DIALECTS["generic"]) == text
    assert text_of(answer({"content": content})) == content


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", ErrorKind.UPSTREAM_MALFORMED),
        (b"{}", ErrorKind.UPSTREAM_MALFORMED),
        (b'{"choices":[]}', ErrorKind.UPSTREAM_MALFORMED),
        (b'{"choices":[{"index":1,"message":{"content":"x"}}]}', ErrorKind.UPSTREAM_MALFORMED),
        (answer({"content": "x"}, "error"), ErrorKind.UPSTREAM_REFUSED),
        (answer({"content": "x"}, "insufficient_system_resource"), ErrorKind.OVERLOADED),
    ],
)
def test_native_answer_of_a_broken_upstream_is_its_error(body: bytes, kind: ErrorKind) -> None:
    """A response without a message, or one that the upstream gave up, is an error."""
    with pytest.raises(GatewayError) as caught:
        text_of(body)

    assert caught.value.kind is kind


def test_native_answer_without_usage_has_zeros() -> None:
    """Clients need numbers; without usage they are zero."""
    made = json.loads(
        native_response(answer({"content": "x"}), response_id="u", model="m", prices=PRICES)
    )

    assert set(made["usage"].values()) == {0}
    assert made["id"] == "u"


def test_charged_tokens_without_input_price_counts_all() -> None:
    """A free model has no price ratio, so every token counts."""
    assert charged_tokens(ChatUsage(input=10, output=5, cached=8), FREE) == 15


def test_charged_tokens_more_cached_than_input_is_clamped() -> None:
    """An upstream that states more cached tokens than input cannot make input negative."""
    assert charged_tokens(ChatUsage(input=10, output=5, cached=100), PRICES) == 6


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**12))
def test_charged_tokens_lie_between_output_and_total(
    tokens_in: int, tokens_out: int, cached: int, price: int
) -> None:
    """With cached tokens cheaper than others the sum lies between output and total, rounded up."""
    prices = Prices(price, 0, price // 7, 0, 0)
    usage = ChatUsage(input=tokens_in, output=tokens_out, cached=cached)

    charged = charged_tokens(usage, prices)

    assert tokens_out <= charged <= usage.total
    exact = (usage.total - min(cached, tokens_in)) * price + min(cached, tokens_in) * (price // 7)
    assert charged * price - exact in range(price)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
names = st.sampled_from([member.name for member in MEMBERS]) | st.text(max_size=5)


@given(st.dictionaries(names, json_values) | json_values, st.booleans())
def test_native_request_arbitrary_json_raises_only_gateway_errors(
    value: object, complete: bool
) -> None:
    """Whatever JSON comes, the outcome is a request or a 400."""
    if complete and isinstance(value, dict):
        value = {"model": "m", "input": "x"} | value
    body = json.dumps(value).encode()

    try:
        made = read_native_request(body, LIMITS)
    except GatewayError as error:
        assert error.kind is ErrorKind.BAD_REQUEST
    else:
        json.loads(chat_request(made, model="up"))


def test_native_chat_page_states_the_codes_own_schema() -> None:
    """The page's request table is the code's table, and every code it raises is listed."""
    page = (Path(__file__).parents[3] / "docs" / "native-chat.md").read_text()
    source = Path(native_chat.__file__).read_text()

    for member in MEMBERS:
        required = "yes" if member.required else "no"
        row = (
            f"| `{member.name}` | {member.type} | {required} | {member.allowed} | "
            f"{member.meaning} |"
        )
        assert row in page
    assert page.count("| yes |") + page.count("| no |") == len(MEMBERS)
    for code in re.findall(r'_refuse\(\s*"(\w+)"', source):
        assert f"| 400 | `{code}` |" in page
    made = json.loads(
        native_response(answer({"content": "x"}), response_id="u", model="m", prices=PRICES)
    )
    for name in ("id", "model", "result.text", *(f"usage.{key}" for key in made["usage"])):
        assert f"| `{name}` |" in page


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        (request(max_retries=4), "between 0 and 3"),
        (request(max_retries=-1), "between 0 and 3"),
        (request(max_output_tokens=0), "1 or more"),
    ],
)
def test_number_out_of_bounds_is_refused_with_the_bounds(body: bytes, bounds: str) -> None:
    """The message gives both bounds, or the lower one if there is no other."""
    with pytest.raises(GatewayError) as caught:
        read_native_request(body, LIMITS)

    assert caught.value.message.endswith(f"it must be {bounds}.")
