"""
Limits of accounts, of keys, and of keys for single models; errors for calls that they refuse.

Six optional limits: requests and tokens per minute (`Bucket`), concurrent calls, and money
spent in a UTC day, in a UTC month and in total. A call must pass the limits of its account, of its
key, and of its key for its model; it counts towards all of them or none.
"""

from __future__ import annotations

import enum
import math
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.core.money import usd
from gateway.errors import ErrorKind, GatewayError

Rate = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Money = Annotated[int, Meta(ge=0, le=9_000_000_000_000_000)]
"""Nano-dollars, up to nine million dollars, which the scripts in Redis count exactly."""


class Limits(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The limits of one scope; None: no limit. Stored in SQL as this struct's JSON."""

    rpm: Rate | None = None
    """Requests per minute."""
    tpm: Rate | None = None
    """Tokens per minute, of all classes."""
    concurrency: Rate | None = None
    """Concurrent calls, each until the end of its response."""
    budget_day_nanousd: Money | None = None
    budget_month_nanousd: Money | None = None
    budget_total_nanousd: Money | None = None


class KeyLimits(Limits, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The limits of a key, and those of the key for single models."""

    models: dict[str, Limits] = {}
    """Public model name -> limits in addition to the key's own."""


NO_LIMITS = Limits()


def tightest(first: Limits, second: Limits) -> Limits:
    """Return the lower of each two limits."""
    found: dict[str, int] = {}
    for name in Limits.__struct_fields__:
        values = [getattr(each, name) for each in (first, second)]
        set_values = [value for value in values if value is not None]
        if set_values:
            found[name] = min(set_values)
    return Limits(**found)


PER_MINUTE_MS = 60_000


class LimitName(enum.Enum):
    """Which limit refused. The value appears in errors and metrics."""

    CREDIT = "credit"
    BUDGET_TOTAL = "budget_total"
    BUDGET_MONTH = "budget_month"
    BUDGET_DAY = "budget_day"
    CONCURRENCY = "concurrency"
    RPM = "requests_per_minute"
    TPM = "tokens_per_minute"
    EXPOSURE = "exposure"
    """The most that the running calls can cost, see `lua/reserve.lua`."""
    SMALL_BALANCE = "small_balance"
    """Concurrent priced calls of an account with little credit."""

    @property
    def is_money(self) -> bool:
        """Return whether values are nano-dollars."""
        return self in (
            LimitName.CREDIT,
            LimitName.BUDGET_TOTAL,
            LimitName.BUDGET_MONTH,
            LimitName.BUDGET_DAY,
            LimitName.EXPOSURE,
        )


class LimitScope(enum.Enum):
    """Whose limit it is."""

    ACCOUNT = "account"
    KEY = "key"
    KEY_MODEL = "key_model"


class Room(msgspec.Struct, frozen=True):
    """What is left of a rate: `remaining` of `limit` per minute, full again in `reset_ms`."""

    limit: int
    remaining: int
    reset_ms: int


class Headroom(msgspec.Struct, frozen=True):
    """The tightest of the per-minute limits that apply to a call; None: not limited."""

    requests: Room | None = None
    tokens: Room | None = None


UNLIMITED = Headroom()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call was not admitted."""

    name: LimitName
    scope: LimitScope
    value: int
    """The limit; for CREDIT and EXPOSURE, the balance plus the credit limit. Money is in
    nano-dollars."""
    remaining: int
    """What is left of it; for money, what is neither spent nor held by running calls."""
    asked: int
    """What the call needs: tokens, nano-dollars, or 1 for a request."""
    retry_after_ms: int | None = None
    """When the same call may succeed; None: waiting does not help."""


_WHOSE = {
    LimitScope.ACCOUNT: "this account",
    LimitScope.KEY: "this API key",
    LimitScope.KEY_MODEL: "this API key for the model '{model}'",
}
_WINDOWS = {
    LimitName.BUDGET_DAY: "daily budget",
    LimitName.BUDGET_MONTH: "monthly budget",
    LimitName.BUDGET_TOTAL: "total budget",
}


def refusal_error(
    refusal: Refusal,
    *,
    model: str,
    top_up: str,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> GatewayError:
    """
    Return the refusal as an error with the limit, its value and when to retry.

    Args:
        refusal: The limit that refused.
        model: The public model name.
        top_up: The URL where credit is bought.
        headers: The rate-limit headers of the client's wire.
    """
    whose = _WHOSE[refusal.scope].format(model=model)
    retry_after_s = None if refusal.retry_after_ms is None else refusal.retry_after_ms / 1000
    if refusal.name is LimitName.CREDIT:
        kind, message = ErrorKind.NO_CREDIT, _no_credit(refusal, top_up)
    elif refusal.name is LimitName.EXPOSURE:
        # A retry may succeed once running calls have ended; without any, the call is too large.
        waits = refusal.retry_after_ms is not None
        kind = ErrorKind.RATE_LIMITED if waits else ErrorKind.NO_CREDIT
        message = _too_exposed(refusal, top_up)
    elif refusal.name is LimitName.SMALL_BALANCE:
        kind, message = ErrorKind.RATE_LIMITED, _small_balance(refusal, top_up)
    elif refusal.name in _WINDOWS:
        kind, message = ErrorKind.BUDGET_SPENT, _no_budget(refusal, whose)
    else:
        kind, message = ErrorKind.RATE_LIMITED, _too_fast(refusal, whose)
    return GatewayError(
        kind,
        message,
        retry_after_s=retry_after_s,
        headers=headers,
        detail=f"limit={refusal.name.value} scope={refusal.scope.value} value={refusal.value}"
        f" remaining={refusal.remaining} asked={refusal.asked}",
    )


def used_up_error(balance_nanousd: int, *, top_up: str) -> GatewayError:
    """Return the refusal of a priced call of an account without credit."""
    return GatewayError(
        ErrorKind.NO_CREDIT,
        f"Not enough credit: {usd(balance_nanousd)} is available. Add credit at {top_up}.",
        detail=f"limit={LimitName.CREDIT.value} scope={LimitScope.ACCOUNT.value}"
        f" value={balance_nanousd} remaining={balance_nanousd}",
    )


def _no_credit(refusal: Refusal, top_up: str) -> str:
    return (
        f"Not enough credit: {usd(refusal.remaining)} is available, but this call would hold "
        f"{usd(refusal.asked)} until it ends. Add credit at {top_up}, or lower max_tokens."
    )


def _too_exposed(refusal: Refusal, top_up: str) -> str:
    cost = (
        f"this call may cost up to {usd(refusal.asked)}, given its max_tokens, its number of "
        "choices and its input"
    )
    if refusal.retry_after_ms is None:
        return (
            f"Not enough credit: {cost}; the account's credit of {usd(refusal.value)} covers "
            f"{usd(max(0, refusal.remaining))}. Lower max_tokens, or add credit at {top_up}."
        )
    return (
        f"Running calls may use up the account's credit: {cost}; they leave "
        f"{usd(max(0, refusal.remaining))} for it. Try again when one has ended, lower "
        f"max_tokens, or add credit at {top_up}."
    )


def _small_balance(refusal: Refusal, top_up: str) -> str:
    return (
        f"With its current credit, this account may run {refusal.value} calls at a time. "
        f"Try again when one has ended, or add credit at {top_up}."
    )


def _no_budget(refusal: Refusal, whose: str) -> str:
    wait = ""
    if refusal.retry_after_ms is not None:
        wait = f" It resets in {_duration(refusal.retry_after_ms)}."
    return (
        f"The {_WINDOWS[refusal.name]} of {usd(refusal.value)} of {whose} has "
        f"{usd(max(0, refusal.remaining))} left; this call would hold {usd(refusal.asked)}.{wait}"
    )


def _too_fast(refusal: Refusal, whose: str) -> str:
    wait = _duration(refusal.retry_after_ms or 1000)
    if refusal.name is LimitName.CONCURRENCY:
        return (
            f"The limit of {refusal.value} concurrent calls of {whose} is reached: "
            f"try again when one has ended, or in {wait}."
        )
    unit = "requests" if refusal.name is LimitName.RPM else "tokens"
    return (
        f"The limit of {refusal.value} {unit} per minute of {whose} is reached: "
        f"{refusal.remaining} left, {refusal.asked} requested. Try again in {wait}."
    )


def _duration(milliseconds: int) -> str:
    seconds = math.ceil(milliseconds / 1000)
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{-(-minutes // 60)} h"


class Bucket(msgspec.Struct, frozen=True):
    """
    The level of a leaky bucket, in sixty-thousandths of a request or token, as of `at_ms`.

    A bucket of capacity `limit` leaks `limit` per minute, which is `limit` sixty-thousandths per
    millisecond: nothing is ever rounded, so Python, Lua and the tests agree to the last request. A
    client that was idle may send `limit` at once, and from then on `limit` per minute.

    Source: ITU-T I.371, the continuous-state leaky bucket form of the generic cell rate algorithm.
    """

    level: int = 0
    at_ms: int = 0


def leaked(bucket: Bucket, limit: int, now_ms: int) -> Bucket:
    """Return the bucket at a later time; nothing leaks if the clock went backwards."""
    passed_ms = max(0, now_ms - bucket.at_ms)
    return Bucket(max(0, bucket.level - passed_ms * limit), max(bucket.at_ms, now_ms))


def take(bucket: Bucket, limit: int, amount: int, now_ms: int) -> Bucket | int:
    """
    Add `amount` to the bucket if it fits.

    An amount above `limit` would never fit: it counts as `limit` here, and `adjust` adds the rest
    after it has been used.

    Returns:
        The new bucket, or the milliseconds until the amount fits, at least 1.
    """
    bucket = leaked(bucket, limit, now_ms)
    level = bucket.level + min(amount, limit) * PER_MINUTE_MS
    excess = level - limit * PER_MINUTE_MS
    if excess > 0:
        return -(-excess // limit)
    return Bucket(level, bucket.at_ms)


def adjust(bucket: Bucket, limit: int, amount: int, now_ms: int) -> Bucket:
    """
    Add what was used beyond the amount taken; a negative amount returns what was not used.

    The level may rise above the capacity but never falls below zero.
    """
    bucket = leaked(bucket, limit, now_ms)
    return Bucket(max(0, bucket.level + amount * PER_MINUTE_MS), bucket.at_ms)


def remaining(bucket: Bucket, limit: int) -> int:
    """Return how many whole requests or tokens still fit; 0 if the bucket is overfull."""
    return max(0, limit * PER_MINUTE_MS - bucket.level) // PER_MINUTE_MS
