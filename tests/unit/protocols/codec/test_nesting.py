"""JSON is nested to one depth on every Python, whatever stands around and between the levels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec import nesting
from gateway.protocols.codec.nesting import MOST_LEVELS, TOO_DEEP, is_deep, refuse_deep

WORDS = b'{"role":"user","content":[{"type":"text","text":"if (a[0]) { f(\\"}\\") }"}]}'


def lists(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def objects(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


def padded(levels: int) -> bytes:
    return b'[{},"]]",' * (levels - 1) + b"[]" + b"]" * (levels - 1)


def spaced(levels: int) -> bytes:
    return b"[ \n 1 ,\t" * levels + b"0" + b" ] " * levels


def among_messages(levels: int) -> bytes:
    messages = [WORDS] * 500 + [lists(levels - 2)]
    return b'{"model":"m","messages":[%b]}' % b",".join(messages)


def under_a_repeated_name(levels: int) -> bytes:
    return b'{"a":%b,"b":[%b],"a":1}' % (lists(levels - 1), b",".join([WORDS] * 100))


def among_many_values(levels: int) -> bytes:
    return b"[%b,%b]" % (b"{}," * 200_000 + b"1", lists(levels - 1))


def beside_half_an_emoji(levels: int) -> bytes:
    return b'["\\ud83d",%b]' % lists(levels - 1)


def after_long_escapes(levels: int) -> bytes:
    return b'["%b",%b]' % (b'\\\\\\"[' * 20_000, lists(levels - 1))


SHAPES = [
    lists, objects, padded, spaced, among_messages, under_a_repeated_name, among_many_values,
    beside_half_an_emoji, after_long_escapes,
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_is_bounded_to_the_level(shape: Callable[[int], bytes]) -> None:
    assert not is_deep(shape(MOST_LEVELS))
    assert is_deep(shape(MOST_LEVELS + 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_text_and_value_within_are_counted_alike(shape: Callable[[int], bytes]) -> None:
    assert is_deep(shape(MOST_LEVELS + 1).decode())
    assert not is_deep(shape(MOST_LEVELS - 2), outer=2)
    assert is_deep(shape(MOST_LEVELS - 1), outer=2)


@pytest.mark.parametrize("levels", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":1},'])
def test_levels_without_an_end_are_deep(opening: bytes, levels: int) -> None:
    assert is_deep(opening * levels)


def test_brackets_in_strings_are_no_levels() -> None:
    assert not is_deep(b'{"a":"%b"}' % (b"[{" * 100_000))
    assert not is_deep(b'"%b"' % (b"[{" * 1000))
    assert not is_deep('{"a":"' + "[{" * 1000 + '\ud83d"}')


def test_refusal_names_the_bound() -> None:
    with pytest.raises(GatewayError) as caught:
        refuse_deep(lists(MOST_LEVELS + 1))
    assert (caught.value.kind, caught.value.message) == (ErrorKind.BAD_REQUEST, TOO_DEEP)
    assert str(MOST_LEVELS) in TOO_DEEP
    refuse_deep(lists(MOST_LEVELS))


def test_accepted_depth_is_decoded_and_encoded_on_a_deep_stack() -> None:
    def at(frames: int) -> object:
        return (
            at(frames - 1) if frames else json.loads(json.dumps(json.loads(objects(MOST_LEVELS))))
        )

    assert at(sys.getrecursionlimit() // 3) is not None


values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from(['"', "\\", "[", "{", "}", "a", "é"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
)


def depth_of(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inner), default=0)


@given(values, st.sampled_from([None, 1]), st.integers(2, 40), st.integers(0, 3))
def test_depth_of_any_value(value: object, indent: int | None, piece: int, splits: int) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    depth = depth_of(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "_SLICE", piece)
        assert not nesting._exceeds(text, depth, splits)
        if depth > 1:
            # Text is never split to its innermost level: there are far more levels than splits.
            assert nesting._exceeds(text, depth - 1, min(splits, depth - 2))
