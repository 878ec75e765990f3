"""Limits as JSON in requests and answers: budgets in dollars and nano-dollars."""

from __future__ import annotations

import msgspec

from gateway.core.limits import KeyLimits, Limits
from gateway.core.money import amount_fields
from gateway.edge.parameters import bad, read_amount

COUNTS = ("rpm", "tpm", "concurrency")
BUDGETS = ("budget_day", "budget_month", "budget_total")


class LimitsBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Limits as they are asked for; null and absent are the same: no such limit."""

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
    """Limits of a key; `models`: public model name to further limits."""

    models: dict[str, LimitsBody] = {}


def read_limits(body: LimitsBody, at: str = "") -> Limits:
    """
    Return limits as they are kept.

    Args:
        body: As asked for.
        at: Where it stands in the request, for the error.

    Raises:
        GatewayError: BAD_REQUEST naming the field that is out of its range.
    """
    values: dict[str, int | None] = {name: getattr(body, name) for name in COUNTS}
    for name in BUDGETS:
        amount, nanousd = getattr(body, name), getattr(body, f"{name}_nanousd")
        values[f"{name}_nanousd"] = read_amount(amount, nanousd, at + name)
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, Limits)
        except msgspec.ValidationError as error:
            raise bad(at + name, f"'{at}{name}' is out of its range: {error}.") from error
    return Limits(**values)


def read_key_limits(body: KeyLimitsBody) -> KeyLimits:
    """Return limits of a key as they are kept; raises as `read_limits`."""
    models = {name: read_limits(each, f"models.{name}.") for name, each in body.models.items()}
    own = read_limits(body)
    return KeyLimits(**{name: getattr(own, name) for name in own.__struct_fields__}, models=models)


def limits_object(limits: Limits) -> dict[str, object]:
    """Return limits as they are shown: every one, null where there is none."""
    shown: dict[str, object] = {name: getattr(limits, name) for name in COUNTS}
    for name in BUDGETS:
        shown.update(amount_fields(name, getattr(limits, f"{name}_nanousd")))
    if isinstance(limits, KeyLimits):
        shown["models"] = {name: limits_object(each) for name, each in limits.models.items()}
    return shown
