"""Buckets, dates, refusals and headers of limits, without Redis."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.calendar import date_of, day_of, first_day_of, month_of, rfc3339
from gateway.core.limits import (
    Bucket,
    Headroom,
    KeyLimits,
    LimitName,
    Limits,
    LimitScope,
    Refusal,
    Room,
    adjust,
    leaked,
    refusal_error,
    remaining,
    take,
    used_up_error,
)
from gateway.core.model import Wire
from gateway.errors import ErrorKind
from gateway.protocols.http.limit_headers import duration, limit_headers

LIMIT = st.integers(1, 10_000)
STEPS = st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 20_000)), max_size=40)


@given(LIMIT, STEPS)
def test_bucket_retry_after_is_sufficient_and_minimal(
    limit: int, steps: list[tuple[int, int]]
) -> None:
    """Waiting for the returned time admits the request; a millisecond less does not."""
    bucket, now = Bucket(), 0
    for wait_ms, amount in steps:
        now += wait_ms
        after = take(bucket, limit, amount, now)
        if isinstance(after, int):
            assert isinstance(take(bucket, limit, amount, now + after - 1), int)
            after = take(bucket, limit, amount, now + after)
        assert isinstance(after, Bucket)
        assert 0 <= after.level <= limit * 60_000
        bucket = after
        now = max(now, after.at_ms)


@given(LIMIT, st.integers(0, 10**12), st.integers(1, 200_000))
def test_bucket_admits_its_limit_at_once_and_again_every_minute(
    limit: int, start: int, minutes_ms: int
) -> None:
    """In any interval a client gets its limit plus what leaked meanwhile, and no more."""
    bucket, admitted = Bucket(), 0
    for now in (start, start + minutes_ms):
        while isinstance(after := take(bucket, limit, 1, now), Bucket):
            bucket = after
            admitted += 1
            if admitted > 2 * limit:
                break
        assert admitted <= limit + minutes_ms * limit // 60_000

    assert admitted == limit + min(limit, minutes_ms * limit // 60_000)


@given(LIMIT, st.integers(0, 100), st.integers(0, 30_000), st.integers(0, 30_000))
def test_bucket_given_back_what_was_not_used_is_as_if_never_taken(
    limit: int, level: int, asked: int, wait_ms: int
) -> None:
    """While nothing has leaked to empty, giving back undoes the taking."""
    bucket = Bucket(level * 60_000, 0)
    taken = take(bucket, limit, asked, 0)
    if isinstance(taken, Bucket):
        poured = min(asked, limit)
        back = adjust(taken, limit, -poured, 0)
        assert leaked(back, limit, wait_ms) == leaked(bucket, limit, wait_ms)


def test_bucket_with_more_used_than_taken_is_overfull() -> None:
    """Tokens of a long response delay the next requests."""
    bucket = adjust(Bucket(), 60, 100, 0)

    assert remaining(bucket, 60) == 0
    assert bucket.level == 60 * 100_000
    assert take(bucket, 60, 1, 0) == 41_000


def test_bucket_of_a_call_larger_than_the_limit_wants_an_empty_one() -> None:
    """An amount above the limit is admitted by an empty bucket."""
    full = take(Bucket(), 10, 500, 0)

    assert full == Bucket(600_000, 0)
    assert take(Bucket(), 10, 500, 0) == full
    assert take(Bucket(1, 0), 10, 500, 0) == 1


def test_bucket_with_a_clock_gone_backwards_lets_nothing_leak() -> None:
    """An earlier time changes neither the level nor the time of the bucket."""
    assert leaked(Bucket(600, 5000), 10, 1000) == Bucket(600, 5000)


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2400, 1, 1)))
def test_date_round_trip_agrees_with_the_calendar(date: datetime.date) -> None:
    """Days, months and their first days are those of the standard library."""
    day = (date - datetime.date(1970, 1, 1)).days

    assert date_of(day) == date
    assert day_of(date.year, date.month, date.day) == day
    assert month_of(day) == date.year * 12 + date.month - 1
    first = date.replace(day=1)
    assert first_day_of(month_of(day)) == (first - datetime.date(1970, 1, 1)).days


@given(st.integers(0, 4_000_000_000))
def test_instant_is_written_as_rfc_3339(unix_s: int) -> None:
    """The form is `2026-05-17T12:00:00Z`."""
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)

    assert rfc3339(unix_s) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"), (120, "120ms"), (999, "999ms"), (1000, "1s"), (1500, "1.5s"), (1005, "1.005s"),
        (59_999, "59.999s"), (360_000, "6m0s"), (3_600_000, "1h0m0s"), (3_661_250, "1h1m1.25s"),
    ],
)  # fmt: skip
def test_duration_is_written_as_openai_does(milliseconds: int, text: str) -> None:
    """Durations have the form of OpenAI's rate-limit headers."""
    assert duration(milliseconds) == text


def test_headers_tell_both_rates_in_either_dialect() -> None:
    """Both vendors' headers carry limit, remaining and reset of both rates."""
    headroom = Headroom(Room(60, 59, 1000), Room(1000, 0, 360_000))

    openai = dict(limit_headers(headroom, Wire.OPENAI, 1_779_019_200))
    anthropic = dict(limit_headers(headroom, Wire.ANTHROPIC, 1_779_019_200))

    assert openai == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"6m0s",
    }
    assert anthropic == {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"59",
        b"anthropic-ratelimit-requests-reset": b"2026-05-17T12:00:01Z",
        b"anthropic-ratelimit-tokens-limit": b"1000",
        b"anthropic-ratelimit-tokens-remaining": b"0",
        b"anthropic-ratelimit-tokens-reset": b"2026-05-17T12:06:00Z",
    }


def test_headers_of_what_is_not_limited_are_none() -> None:
    """A rate without a limit has no headers; a rate with one has three."""
    assert limit_headers(Headroom(), Wire.OPENAI, 0) == ()
    assert len(limit_headers(Headroom(tokens=Room(5, 5, 0)), Wire.ANTHROPIC, 0)) == 3


def refusal(name: LimitName, **changes: object) -> Refusal:
    """A refusal of a key."""
    given_values = {
        "scope": LimitScope.KEY, "value": 60, "remaining": 0, "asked": 1, "retry_after_ms": 1500,
        **changes,
    }  # fmt: skip
    return Refusal(name=name, **given_values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("refused", "kind", "message"),
    [
        (
            refusal(LimitName.RPM),
            ErrorKind.RATE_LIMITED,
            "The limit of 60 requests per minute of this API key is reached: 0 left, "
            "1 requested. Try again in 2 s.",
        ),
        (
            refusal(LimitName.TPM, scope=LimitScope.KEY_MODEL, remaining=9, asked=50),
            ErrorKind.RATE_LIMITED,
            "The limit of 60 tokens per minute of this API key for the model 'm' is reached: "
            "9 left, 50 requested. Try again in 2 s.",
        ),
        (
            refusal(LimitName.CONCURRENCY, scope=LimitScope.ACCOUNT, retry_after_ms=1000),
            ErrorKind.RATE_LIMITED,
            "The limit of 60 concurrent calls of this account is reached: "
            "try again when one has ended, or in 1 s.",
        ),
        (
            refusal(
                LimitName.CREDIT, remaining=-5_000_000, asked=120_000_000, retry_after_ms=None
            ),
            ErrorKind.NO_CREDIT,
            "Not enough credit: -$0.005 is available, but this call would hold $0.12 until it ends."
            " Add credit at https://x/app/credits, or lower max_tokens.",
        ),
        (
            refusal(
                LimitName.BUDGET_DAY, value=2_000_000_000, remaining=10, asked=500,
                retry_after_ms=43_200_000,
            ),
            ErrorKind.BUDGET_SPENT,
            "The daily budget of $2.00 of this API key has $0.00000001 left; this call would hold "
            "$0.0000005. It resets in 12 h.",
        ),
        (
            refusal(LimitName.BUDGET_TOTAL, value=0, remaining=-7, asked=5, retry_after_ms=None),
            ErrorKind.BUDGET_SPENT,
            "The total budget of $0.00 of this API key has $0.00 left; this call would hold "
            "$0.000000005.",
        ),
    ],
)  # fmt: skip
def test_refusal_says_limit_value_and_what_to_do(
    refused: Refusal, kind: ErrorKind, message: str
) -> None:
    """The message states which limit was hit and when to retry."""
    error = refusal_error(refused, model="m", top_up="https://x/app/credits")

    assert (error.kind, error.message) == (kind, message)
    waits = refused.retry_after_ms
    assert error.retry_after_s == (None if waits is None else waits / 1000)
    assert error.detail is not None
    assert f"limit={refused.name.value}" in error.detail


@pytest.mark.parametrize(
    ("refused", "kind", "message"),
    [
        (
            refusal(LimitName.EXPOSURE, value=2 * 10**9, remaining=-5, asked=3 * 10**9),
            ErrorKind.RATE_LIMITED,
            "Running calls may use up the account's credit: this call may cost up to $3.00, given "
            "its max_tokens, its number of choices and its input; they leave $0.00 for it. "
            "Try again when one has ended, lower max_tokens, or add credit at https://x/top-up.",
        ),
        (
            refusal(
                LimitName.EXPOSURE, value=2 * 10**9, remaining=10**9, asked=3 * 10**9,
                retry_after_ms=None,
            ),
            ErrorKind.NO_CREDIT,
            "Not enough credit: this call may cost up to $3.00, given its max_tokens, its number "
            "of choices and its input; the account's credit of $2.00 covers $1.00. "
            "Lower max_tokens, or add credit at https://x/top-up.",
        ),
        (
            refusal(LimitName.SMALL_BALANCE, value=2),
            ErrorKind.RATE_LIMITED,
            "With its current credit, this account may run 2 calls at a time. "
            "Try again when one has ended, or add credit at https://x/top-up.",
        ),
    ],
)  # fmt: skip
def test_refusal_for_lack_of_credit_says_where_to_add_it(
    refused: Refusal, kind: ErrorKind, message: str
) -> None:
    """A call that the credit never covers is no rate limit: waiting does not help."""
    error = refusal_error(refused, model="m", top_up="https://x/top-up")

    assert (error.kind, error.message) == (kind, message)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "1 s"), (1, "1 s"), (119_000, "119 s"), (119_001, "2 min"), (121_000, "3 min"),
        (7_140_000, "119 min"), (7_140_001, "2 h"), (7_200_001, "3 h"),
    ],
)  # fmt: skip
def test_refusal_rounds_the_wait_up(milliseconds: int | None, text: str) -> None:
    """Seconds up to two minutes, minutes up to two hours, then hours; one second by default."""
    error = refusal_error(refusal(LimitName.RPM, retry_after_ms=milliseconds), model="m", top_up="")

    assert error.message.endswith(f"Try again in {text}.")


def test_refusal_of_an_account_without_credit_names_its_balance() -> None:
    """A debt is a negative balance."""
    error = used_up_error(-1_500_000_000, top_up="https://x/top-up")

    assert error.kind is ErrorKind.NO_CREDIT
    assert error.message == (
        "Not enough credit: -$1.50 is available. Add credit at https://x/top-up."
    )
    assert error.detail == "limit=credit scope=account value=-1500000000 remaining=-1500000000"


def test_limits_have_a_highest_value() -> None:
    """A billion requests or tokens, and nine million dollars, which scripts count exactly."""
    highest = b'{"rpm":1000000000,"budget_day_nanousd":9000000000000000}'

    assert msgspec.json.decode(highest, type=Limits).rpm == 10**9
    for above in (b'{"rpm":1000000001}', b'{"budget_total_nanousd":9000000000000001}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(above, type=Limits)


def test_limits_are_kept_as_plain_json() -> None:
    """Limits stored in SQL are decoded, and invalid ones are rejected."""
    limits = KeyLimits(rpm=60, budget_day_nanousd=0, models={"m": Limits(tpm=5)})

    raw = msgspec.json.encode(limits)

    assert raw == b'{"rpm":60,"budget_day_nanousd":0,"models":{"m":{"tpm":5}}}'
    assert msgspec.json.decode(raw, type=KeyLimits) == limits
    for wrong in (b'{"rpm":0}', b'{"rmp":60}', b'{"budget_day_nanousd":-1}', b'{"tpm":1.5}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=KeyLimits)


def test_remaining_is_the_room_in_whole_units_and_never_below_zero() -> None:
    """An empty bucket has room for its limit, an overfull one for nothing."""
    empty = Bucket(0, 0)
    taken = take(empty, 10, 3, 0)
    assert isinstance(taken, Bucket)

    assert remaining(empty, 10) == 10
    assert remaining(taken, 10) == 7
    assert remaining(adjust(taken, 10, 20, 0), 10) == 0
