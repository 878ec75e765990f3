"""Retry advice that is a number, a date, or neither."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import read_fault
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.retry_after import dated, retry_headers

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
        (b"Fri, 31 Dec 9999 23:59:59 GMT", b"999999999"),
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
@pytest.mark.parametrize(
    ("later_s", "kept"), [(30, b"30"), (0.5, b"1"), (0, b"0"), (-90, b"0"), (86_400, b"86400")]
)
def test_date_without_the_upstreams_clock_is_read_by_the_time_of_receipt(
    date: list[tuple[bytes, bytes]], later_s: float, kept: bytes
) -> None:
    header = (b"retry-after", b"Fri, 27 Nov 2026 10:00:30 GMT")
    received_at = datetime(2026, 11, 27, 10, 0, 30, tzinfo=UTC).timestamp() - later_s

    assert retry_headers(dated([header, *date], received_at)) == ((b"retry-after", kept),)


def test_date_without_any_clock_is_omitted() -> None:
    assert retry_headers([(b"retry-after", b"Fri, 27 Nov 2026 10:00:30 GMT")]) == ()


def test_upstreams_clock_is_preferred_to_the_time_of_receipt() -> None:
    """The two may differ by minutes; the delay that the upstream means does not."""
    headers = [DATE, (b"retry-after", b"Fri, 27 Nov 2026 10:00:30 GMT")]

    assert retry_headers(dated(headers, 0.0)) == ((b"retry-after", b"30"),)


def test_response_without_retry_advice_gets_no_date() -> None:
    headers = [(b"content-type", b"text/plain"), (b"retry-after-ms", b"5")]

    assert dated(headers, 0.0) is headers


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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b"Fri, 27 Nov 2026 10:00:30 GMT", 30.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 999_999_999.0),
        (b"0", None),
        (b"Fri, 27 Nov 2026 09:00:00 GMT", None),
        (b"soon", None),
    ],
)
def test_fault_demands_a_rest_only_of_a_time_to_come(value: bytes, seconds: float | None) -> None:
    assert (
        read_fault(Wire.OPENAI, 429, [DATE, (b"retry-after", value)], b"").retry_after_s == seconds
    )


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
