"""Retry advice that is a number, a date, or neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import read_fault
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.retry_after import retry_headers

DATE = (b"date", b"Fri, 27 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"7", b"7"),
        (b" 1.5 ", b"1.5"),
        (b"0", b"0"),
        (b"Fri, 27 Nov 2026 10:00:30 GMT", b"30"),
        (b"Friday, 27-Nov-26 10:01:00 GMT", b"60"),
        (b"Fri, 27 Nov 2026 09:00:00 GMT", b"0"),
        (b"Fri, 27 Nov 2026 11:00:00 +0100", b"0"),
        (b"", None),
        (b"soon", None),
        (b"-1", None),
        (b"nan", None),
        (b"inf", None),
        (b"1e3", None),
        (b"30s", None),
        (b"1234567890", None),
        (b"Fri, 99 Nov 2026 10:00:30 GMT", None),
        (b"\xff", None),
    ],
)
def test_retry_after_is_a_number_of_seconds(value: bytes, kept: bytes | None) -> None:
    expected = () if kept is None else ((b"retry-after", kept),)

    assert retry_headers([DATE, (b"retry-after", value)]) == expected


@pytest.mark.parametrize("date", [[], [(b"date", b"yesterday")]])
def test_date_without_the_upstreams_clock_is_relayed(date: list[tuple[bytes, bytes]]) -> None:
    header = (b"retry-after", b"Fri, 27 Nov 2026 10:00:30 GMT")

    assert retry_headers([header, *date]) == (header,)


def test_milliseconds_are_never_a_date() -> None:
    headers = [(b"retry-after-ms", b"250"), (b"retry-after", b"x"), DATE]

    assert retry_headers(headers) == ((b"retry-after-ms", b"250"),)
    assert retry_headers([(b"retry-after-ms", DATE[1]), DATE]) == ()


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("client", list(Wire))
def test_error_has_the_seconds_whatever_the_wires(wire: Wire, client: Wire) -> None:
    later = (b"retry-after", b"Fri, 27 Nov 2026 10:00:30 GMT")
    fault = read_fault(wire, 429, [DATE, later], b"{}")

    assert (b"retry-after", b"30") in translate_error(fault, client, "m").headers


@pytest.mark.parametrize(("value", "returned"), [(b"5", [b"5"]), (b"soon", [])])
def test_relayed_response_has_no_advice_that_is_no_number(
    value: bytes, returned: list[bytes]
) -> None:
    headers = client_headers([(b"retry-after", value)], "r", stream=False)

    assert [value for name, value in headers if name == b"retry-after"] == returned


@given(st.binary(max_size=60))
def test_no_advice_raises(value: bytes) -> None:
    for _, kept in retry_headers([DATE, (b"retry-after", value), (b"retry-after-ms", value)]):
        assert kept.isascii()
