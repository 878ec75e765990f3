"""Reads, checks and merges limits of accounts and keys."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.limits import NO_LIMITS, KeyLimits, Limits
from gateway.operations.objects import BUDGETS, COUNT_LIMITS
from gateway.operations.values import InvalidValueError, read_amount


class LimitsBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Limits in a request; null and absent both mean no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget_day: str | None = None
    budget_day_nanousd: int | None = None
    budget_month: str | None = None
    budget_month_nanousd: int | None = None
    budget_total: str | None = None
    budget_total_nanousd: int | None = None


class KeyLimitsBody(LimitsBody, forbid_unknown_fields=True, kw_only=True):
    """Limits of a key; `models` maps a model's public name to further limits."""

    models: dict[str, LimitsBody] = {}


def read_limits(body: LimitsBody, path: str = "") -> Limits:
    """
    Return the limits of a request.

    Args:
        body: The limits requested.
        path: Prefix of the fields' names in errors, `models.x.`.

    Raises:
        InvalidValueError: A limit is out of range.
    """
    values: dict[str, int | None] = {name: getattr(body, name) for name in COUNT_LIMITS}
    for name in BUDGETS:
        amount, nanousd = getattr(body, name), getattr(body, f"{name}_nanousd")
        values[f"{name}_nanousd"] = read_amount(amount, nanousd, path + name)
    return merge_limits(NO_LIMITS, values, path)


def read_key_limits(body: KeyLimitsBody) -> KeyLimits:
    """Return the limits of a key of a request; raises as `read_limits`."""
    models = {name: read_limits(each, f"models.{name}.") for name, each in body.models.items()}
    return KeyLimits(**_fields(read_limits(body)), models=models)


def merge_limits(limits: Limits, changes: Mapping[str, int | None], path: str = "") -> Limits:
    """
    Return `limits` with some of them changed.

    Args:
        limits: The limits to start from.
        changes: Names of fields of `Limits`; None removes a limit.
        path: Prefix of the fields' names in errors.

    Raises:
        InvalidValueError: A limit is out of range.
    """
    for name, value in changes.items():
        try:
            msgspec.convert({name: value}, Limits)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0]
            raise InvalidValueError(path + name, f"is out of range: {reason}") from error
    return Limits(**{**_fields(limits), **changes})


def merge_key_limits(
    limits: KeyLimits, changes: Mapping[str, int | None], model: str | None
) -> KeyLimits:
    """Return a key's limits, or its limits for `model`, changed; raises as `merge_limits`."""
    if model is None:
        return msgspec.structs.replace(limits, **_fields(merge_limits(limits, changes)))
    models = {**limits.models, model: merge_limits(limits.models.get(model, NO_LIMITS), changes)}
    kept = {name: each for name, each in models.items() if each != NO_LIMITS}
    return msgspec.structs.replace(limits, models=kept)


def _fields(limits: Limits) -> dict[str, int | None]:
    return {name: getattr(limits, name) for name in Limits.__struct_fields__}
