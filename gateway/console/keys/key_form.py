"""The form of a key: reads it, reports each field's error, and shows an existing key in it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.limits import KeyLimits
from gateway.core.money import dollars
from gateway.errors import GatewayError
from gateway.operations.keys import public_names
from gateway.operations.limits import merge_limits
from gateway.operations.values import read_amount, read_text, read_time
from gateway.store.keys.repository import KeyDetails, KeyRow

from gateway.console.web.forms import Form  # isort: skip

DAY_S = 86_400
COUNTS = ("rpm", "tpm", "concurrency")
BUDGETS = ("budget_day", "budget_month", "budget_total")
_SPANS = {"30": 30 * DAY_S, "90": 90 * DAY_S}


class KeyFields(msgspec.Struct, kw_only=True):
    """The form's fields as they are shown."""

    name: str = ""
    expires: str = "never"
    """`never`, `30`, `90` (days) or `date`."""
    date: str = ""
    all_models: bool = True
    models: list[str] = []
    limits: dict[str, str] = {}

    @property
    def has_limits(self) -> bool:
        """Return whether any limit is set."""
        return any(self.limits.values())


def fields_of(form: Form) -> KeyFields:
    """Return the fields as entered."""
    return KeyFields(
        name=form.text("name"),
        expires=form.text("expires", "never"),
        date=form.text("date"),
        all_models=form.text("scope", "all") != "chosen",
        models=form.all("models"),
        limits={name: form.text(name) for name in (*COUNTS, *BUDGETS)},
    )


def fields_of_key(row: KeyRow) -> KeyFields:
    """Return the fields of an existing key."""
    limits = row.limits or KeyLimits()
    shown: dict[str, str] = {}
    for name in COUNTS:
        value = getattr(limits, name)
        shown[name] = "" if value is None else str(value)
    for name in BUDGETS:
        value = getattr(limits, f"{name}_nanousd")
        shown[name] = "" if value is None else dollars(value)
    date = ""
    if row.expires_at is not None:
        date = time.strftime("%Y-%m-%d", time.gmtime(row.expires_at))
    return KeyFields(
        name=row.name,
        expires="never" if row.expires_at is None else "date",
        date=date,
        all_models=row.models is None,
        models=sorted(row.models or ()),
        limits=shown,
    )


def read_details(
    fields: KeyFields, catalogue: Catalogue, now: float, before: KeyRow | None = None
) -> tuple[KeyDetails | None, Mapping[str, str]]:
    """
    Return the details of a key, or None and what is wrong with which field.

    Args:
        fields: As entered.
        catalogue: The models.
        now: Unix seconds.
        before: The key that is edited: its expiry time of day and limits of models are kept.
    """
    errors: dict[str, str] = {}
    name, expires_at, models = "", None, None
    try:
        name = read_text(fields.name[:101], "name")
    except GatewayError:
        errors["name"] = "Enter a name, such as the program or the machine."
    if len(name) > 100:
        errors["name"] = "Use at most 100 characters."
    try:
        expires_at = _expiry(fields, now, before)
    except ValueError as error:
        errors["date"] = str(error)
    if not fields.all_models:
        kept = {name for name in fields.models if before and name in (before.models or ())}
        try:
            models = sorted({*kept, *public_names(catalogue, set(fields.models) - kept or kept)})
        except GatewayError:
            known = [name for name in fields.models if name in kept]
            models = known or None
            if not known:
                errors["models"] = "Choose at least one model, or allow all."
    limits = _limits(fields, errors, before)
    if errors:
        return None, errors
    return KeyDetails(name=name, expires_at=expires_at, models=models, limits=limits), {}


def _expiry(fields: KeyFields, now: float, before: KeyRow | None) -> int | None:
    if fields.expires == "never":
        return None
    if fields.expires in _SPANS:
        return int(now) + _SPANS[fields.expires]
    if before is not None and fields.date == fields_of_key(before).date:
        return before.expires_at
    try:
        # A key works until the end of the day, in UTC.
        at = read_time(fields.date, "date") + DAY_S - 1
    except GatewayError as error:
        raise ValueError("Enter a date like 2027-01-31.") from error
    if at <= now:
        raise ValueError("This day has passed.")
    return at


def _limits(fields: KeyFields, errors: dict[str, str], before: KeyRow | None) -> KeyLimits | None:
    values: dict[str, int | None] = {}
    for name in (*COUNTS, *BUDGETS):
        text = fields.limits.get(name, "").replace(",", "")
        column = name if name in COUNTS else f"{name}_nanousd"
        try:
            if name in COUNTS:
                values[column] = int(text[:12]) if text else None
            else:
                values[column] = read_amount(text or None, None, name)
            merge_limits(KeyLimits(), {column: values[column]})
        except (GatewayError, ValueError):
            is_count = name in COUNTS
            errors[name] = "Enter a whole number." if is_count else "Enter dollars like 12.50."
    if errors:
        return None
    models = before.limits.models if before is not None and before.limits is not None else {}
    limits = KeyLimits(**values, models=models)
    return None if limits == KeyLimits() else limits
