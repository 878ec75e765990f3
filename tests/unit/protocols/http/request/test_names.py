"""Member names that two readers of a request could understand differently are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.anthropic_messages.threads import asks_for_thread
from gateway.protocols.codec.json_spans import members, unrepeated
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.rewrite import inject_usage, without_fields
from gateway.protocols.native_chat import NativeLimits

PADDING = b" " * 5000
REST = {
    Endpoint.CHAT_COMPLETIONS: b'"model":"m","messages":[]',
    Endpoint.MESSAGES: b'"model":"m","messages":[],"max_tokens":1',
    Endpoint.COUNT_TOKENS: b'"model":"m","messages":[]',
    Endpoint.EMBEDDINGS: b'"model":"m","input":"x"',
    Endpoint.RESPONSES: b'"model":"m","input":"x"',
    Endpoint.NATIVE_CHAT: b'"model":"m","input":"x"',
}


def refusal(endpoint: Endpoint, body: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parse_request(endpoint, body, created=0, limits=NativeLimits())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    return caught.value


def bodies(endpoint: Endpoint, members: bytes) -> list[bytes]:
    """The members before and after the rest, in a small body and a large one."""
    rest = REST[endpoint]
    both = [b"{" + members + b"," + rest + b"}", b"{" + rest + b"," + members + b"}"]
    return [body + padding for body in both for padding in (b"", PADDING)]


@pytest.mark.parametrize("endpoint", list(Endpoint))
@pytest.mark.parametrize(
    ("members", "param"),
    [
        (b'"temperature":1,"temperature":1', "temperature"),
        (b'"temperature":0,"temperature":1', "temperature"),
        (b'"temperature":1, "temp\\u0065rature":1', "temperature"),
        (b'"unknown":[{}],"unknown":[{},1]', "unknown"),
        (b'"stream_options":null,"stream\\u005foptions":{"include_usage":false}', "stream_options"),
        (b'"stream_options":{"include_usage":true,"include_usage":false}',
         "stream_options.include_usage"),
        (b'"stream_options":{"include_usage":true,"includ\\u0065_usage":false}',
         "stream_options.include_usage"),
        (b'"metadata":{"user_id":"a", "user_id":"b"}', "metadata.user_id"),
        (b'"thinking":{"type":"disabled","type":"enabled"}', "thinking.type"),
        (b'"reasoning":{"effort":"low","effort":"high"}', "reasoning.effort"),
        (b'"output_config":{"effort":"low","effort":"high"}', "output_config.effort"),
        (b'"response_format":{"type":"json_schema","json_schema":{"name":"a","name":"a"}}',
         "response_format.json_schema.name"),
        (b'"text":{"format":{"type":"text","type":"json_schema"}}', "text.format.type"),
        (b'"tool_choice":{"type":"function","function":{"name":"a","name":"b"}}',
         "tool_choice.function.name"),
    ],
)  # fmt: skip
def test_repeated_member_is_refused_by_name(endpoint: Endpoint, members: bytes, param: str) -> None:
    for body in bodies(endpoint, members):
        error = refusal(endpoint, body)
        assert error.param == param
        assert error.message == f"'{param}' occurs more than once in the request; send it once."


@pytest.mark.parametrize("endpoint", list(Endpoint))
@pytest.mark.parametrize(
    ("members", "param", "meant"),
    [
        (b'"Model":"expensive"', "Model", "model"),
        (b'"MODEL":"expensive"', "MODEL", "model"),
        (b'"\\u004dodel":"expensive"', "Model", "model"),
        (b'"Max_Tokens":9', "Max_Tokens", "max_tokens"),
        (b'"STREAM":true', "STREAM", "stream"),
        (b'"\xc5\xbftream":true', "\u017ftream", "stream"),
        (b'"max_to\xe2\x84\xaaens":9', "max_to\u212aens", "max_tokens"),
        (b'"Stream_Options":{}', "Stream_Options", "stream_options"),
        (b'"N":64', "N", "n"),
        (b'"Best_Of":64', "Best_Of", "best_of"),
        (b'"Service_Tier":"priority"', "Service_Tier", "service_tier"),
        (b'"stream_options":{"Include_Usage":true}', "stream_options.Include_Usage",
         "include_usage"),
        (b'"thinking":{"type":"disabled","Type":"enabled"}', "thinking.Type", "type"),
        (b'"response_format":{"json_schema":{"Schema":{}}}',
         "response_format.json_schema.Schema", "schema"),
    ],
)  # fmt: skip
def test_name_in_another_case_is_refused_with_its_spelling(
    endpoint: Endpoint, members: bytes, param: str, meant: str
) -> None:
    for body in bodies(endpoint, members):
        error = refusal(endpoint, body)
        assert error.param == param
        assert error.message == (
            f"Unknown parameter: '{param}'; member names are lower case: '{meant}'."
        )


def test_unknown_names_and_the_clients_own_data_are_relayed() -> None:
    body = (
        b'{"model":"m","messages":[{"Role":"user","role":"user"}],"X-Mine":1,"x-mine":2,'
        b'"metadata":{"Model":"a","User_Id":"b","user_id":"c"},"logit_bias":{"A":1,"a":2}}'
    )
    for sized in (body, body + PADDING):
        front = parse_request(Endpoint.CHAT_COMPLETIONS, sized, created=0, limits=NativeLimits())
        assert front.body == sized
    assert (
        refusal(Endpoint.MESSAGES, b'{"model":"m","metadata":{"User_Id":"b"}}').param
        == "metadata.User_Id"
    )


def test_long_name_is_cut_in_the_answer() -> None:
    name = b"x" * 4000
    error = refusal(Endpoint.CHAT_COMPLETIONS, b'{"%b":1,"model":"m","%b":1}' % (name, name))
    assert error.param == "x" * 64


@pytest.mark.parametrize("name", [b"x" * 4097, b"\\n" * 4097])
def test_endless_name_is_refused(name: bytes) -> None:
    error = refusal(Endpoint.CHAT_COMPLETIONS, b'{"model":"m","%b":1}%b' % (name, PADDING))
    assert error.message == "A member name is longer than 4,096 characters."


@pytest.mark.parametrize(
    "options",
    [
        b'"stream_options":{"include_usage":false}',
        b'"stream\\u005foptions":{"include_usage":false}',
        b'"stream_options":{"include\\u005fusage":false}',
        b'"\\u0073tream_options":{}',
        b'"stream_options":null',
    ],
)
@pytest.mark.parametrize("padding", [b"", PADDING])
def test_no_spelling_switches_usage_off(options: bytes, padding: bytes) -> None:
    body = b'{"mod\\u0065l":"m","str\\u0065am":true,' + options + b"}" + padding
    asked, hide = inject_usage(body)
    assert hide
    assert json.loads(asked)["stream_options"] == {"include_usage": True}


def test_fields_that_providers_must_not_see_are_dropped_in_any_case() -> None:
    body = b'{"model":"m","Speed":"fast","speed":"fast","x":1}'
    assert json.loads(without_fields(body, frozenset({"speed"}))) == {"model": "m", "x": 1}
    assert without_fields(b'{"x":1}', frozenset({"speed"})) == b'{"x":1}'


def test_thread_is_found_in_any_spelling() -> None:
    assert asks_for_thread(b'{"thr\\u0065ad":{"type":"create"}}')
    assert not asks_for_thread(b'{"x":"\\u0065"}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just('}]{,"'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: \r\n")])


def written(fields: list[tuple[str, object]], comma: str, colon: str, *, ascii_only: bool) -> bytes:
    parts = [
        json.dumps(name, ensure_ascii=ascii_only) + colon + json.dumps(value)
        for name, value in fields
    ]
    return ("{" + comma.join(parts) + "}").encode("utf-8", "surrogatepass")


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=5), separators, st.booleans())
def test_members_of_any_object_hold_its_values(
    fields: dict[str, object], separators: tuple[str, str], ascii_only: bool
) -> None:
    text = written(list(fields.items()), *separators, ascii_only=ascii_only)
    found = members(text)
    assert [name for name, _, _ in found] == list(fields)
    assert [json.loads(text[start:end]) for _, start, end in found] == list(fields.values())
    values = unrepeated(text)
    assert {name: json.loads(bytes(raw)) for name, raw in values.items()} == fields


@given(
    st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=5),
    json_values, separators, st.booleans(), st.data(),
)  # fmt: skip
def test_a_repeated_name_of_any_object_is_named(
    fields: dict[str, object],
    again: object,
    separators: tuple[str, str],
    ascii_only: bool,
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(list(fields)))
    assume(name)
    pairs = [*fields.items()]
    pairs.insert(data.draw(st.integers(0, len(pairs))), (name, again))
    text = written(pairs, *separators, ascii_only=ascii_only)
    for read in (members, unrepeated):
        with pytest.raises(GatewayError) as caught:
            read(text)
        assert (caught.value.kind, caught.value.param) == (ErrorKind.BAD_REQUEST, name)


def test_lone_surrogates_do_not_hide_a_repeated_name() -> None:
    for body in (b'{"model":"a","x":"\\ud83d","x":1}', b'{"model":"a","x":"\\ud83d","model":"b"}'):
        for padding in (b"", PADDING):
            with pytest.raises(GatewayError, match="more than once"):
                decode_call(body + padding, Wire.OPENAI)
