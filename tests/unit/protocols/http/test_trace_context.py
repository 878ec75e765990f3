"""The trace context of requests, by the rules of W3C."""

import pytest

from gateway.protocols.http.trace_context import (
    MAX_STATE_BYTES,
    MAX_STATE_MEMBERS,
    TraceParent,
    read_traceparent,
    read_tracestate,
    traceparent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f" 00-{TRACE}-{SPAN}-01 ", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
    ],
)
def test_valid_parent_is_read(value: str, sampled: bool) -> None:
    """Later versions may append fields, and only one flag is known."""
    assert read_traceparent([value.encode()]) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "a" * 9000,
    ],
)
def test_invalid_parent_is_ignored(value: str) -> None:
    """A request with it begins a new trace."""
    assert read_traceparent([value.encode()]) is None


def test_repeated_parent_is_ignored() -> None:
    """Two parents contradict each other."""
    value = f"00-{TRACE}-{SPAN}-01".encode()

    assert read_traceparent([value, value]) is None
    assert read_traceparent([]) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], b""),
        ([b"rojo=00f067aa0ba902b7"], b"rojo=00f067aa0ba902b7"),
        ([b"a=1, b=2\t,,c=3 "], b"a=1,b=2,c=3"),
        ([b"a=1", b"b=2"], b"a=1,b=2"),
        ([b"tenant@vendor=x y"], b"tenant@vendor=x y"),
        ([b"a=1,B=2"], b""),
        ([b"a=1,b"], b""),
        ([b"a=1,b=2=3"], b""),
        ([b"a=\xff"], b""),
        ([b"a=1\x00"], b""),
        ([b"a" * 257 + b"=1"], b""),
        ([b"a=" + b"1" * 257], b""),
    ],
)
def test_state_is_forwarded_if_it_is_valid(values: list[bytes], expected: bytes) -> None:
    """The headers are joined; one wrong member makes all of it invalid."""
    assert read_tracestate(values) == expected


def test_state_is_bounded() -> None:
    """Whole members are dropped from the right."""
    many = read_tracestate([b",".join(b"k%d=1" % number for number in range(100))])
    assert many.split(b",") == [b"k%d=1" % number for number in range(MAX_STATE_MEMBERS)]

    long = read_tracestate([b",".join(b"k%d=" % number + b"v" * 200 for number in range(5))])
    assert long.count(b",") == 1
    assert len(long) <= MAX_STATE_BYTES


def test_parent_is_written_as_it_is_read() -> None:
    """Version 00, with the one flag."""
    assert traceparent(TRACE, SPAN, sampled=True) == f"00-{TRACE}-{SPAN}-01".encode()
    assert read_traceparent([traceparent(TRACE, SPAN, sampled=False)]) == (TRACE, SPAN, False)
