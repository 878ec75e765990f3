"""The operators' objects: accounts, ledger, keys, codes, reports and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.console.openapi.shapes.account import Balance, UsageRow
from gateway.console.openapi.shapes.common import Dollars, NanoDollars, about
from gateway.store.accounts.accounts import Billing

Time = Annotated[str, about("UTC, such as `2027-01-31T12:00:00Z`.")]
SentTime = Annotated[str | int | None, about("An ISO date or time, or Unix seconds.")]
Next = Annotated[
    str | int | None,
    about("Send it as `after` or `before` to get the following page; null: this is the last."),
]


class Page(Struct, kw_only=True):
    """One page of a list."""

    object: Literal["list"]
    has_more: bool
    next: Next


class AccountChange(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to change; absent members stay as they are."""

    name: str | UnsetType | None = UNSET
    billing: Billing | UnsetType | None = UNSET
    credit_limit: (
        Annotated[str | None, about("Decimal dollars; of a postpaid account.")] | UnsetType
    ) = UNSET
    credit_limit_nanousd: int | UnsetType | None = UNSET
    trusted: (
        Annotated[bool | None, about("Running calls are not bounded by the funds.")] | UnsetType
    ) = UNSET


class NewAccount(AccountChange, forbid_unknown_fields=True, kw_only=True):
    """A new account, prepaid with a balance of 0 by default."""

    name: str


class SentLimits(Struct, forbid_unknown_fields=True, kw_only=True):
    """Limits; null and absent both mean no limit. Budgets in dollars or nano-dollars."""

    rpm: Annotated[int | None, about("Requests per minute.")] | UnsetType = UNSET
    tpm: Annotated[int | None, about("Tokens per minute.")] | UnsetType = UNSET
    concurrency: Annotated[int | None, about("Calls at once.")] | UnsetType = UNSET
    budget_day: str | UnsetType | None = UNSET
    budget_day_nanousd: int | UnsetType | None = UNSET
    budget_month: str | UnsetType | None = UNSET
    budget_month_nanousd: int | UnsetType | None = UNSET
    budget_total: str | UnsetType | None = UNSET
    budget_total_nanousd: int | UnsetType | None = UNSET


class SentKeyLimits(SentLimits, forbid_unknown_fields=True, kw_only=True):
    """Limits of a key, and further ones for single models."""

    models: dict[str, SentLimits] | UnsetType = UNSET


class LimitValues(Struct, kw_only=True):
    """Limits in force; null: none."""

    rpm: int | None
    tpm: int | None
    concurrency: int | None
    budget_day: str | None
    budget_day_nanousd: int | None
    budget_month: str | None
    budget_month_nanousd: int | None
    budget_total: str | None
    budget_total_nanousd: int | None
    object: Literal["limits"] | UnsetType = UNSET
    models: dict[str, Any] | UnsetType = UNSET


class Account(Balance, kw_only=True):
    """An account with balance, terms and limits."""

    id: str
    name: str
    created_at: Time
    trusted: bool
    limits: LimitValues
    version: int


class AccountList(Page):
    """One page of accounts, oldest first."""

    data: list[Account]


class Booking(Struct, forbid_unknown_fields=True, kw_only=True):
    """A top-up or an adjustment, in dollars or nano-dollars."""

    reason: str
    kind: Literal["topup", "adjustment"] | UnsetType = UNSET
    amount: Dollars | UnsetType | None = UNSET
    amount_nanousd: NanoDollars | UnsetType | None = UNSET
    idempotency_key: (
        Annotated[str | None, about("As the header `idempotency-key`.")] | UnsetType
    ) = UNSET


class Reason(Struct, forbid_unknown_fields=True):
    """Why; it is kept in the ledger and the audit log."""

    reason: str


class Entry(Struct, kw_only=True):
    """One entry of an account's ledger."""

    object: Literal["ledger_entry"]
    id: int
    account_id: str
    at_ms: int
    kind: str
    amount: Dollars
    amount_nanousd: NanoDollars
    balance_after: Dollars
    balance_after_nanousd: NanoDollars
    request_id: str | None
    idempotency_key: str | None
    reason: str | None
    actor: str | None
    replayed: (
        Annotated[bool, about("An earlier request with the same key made this entry.")] | UnsetType
    ) = UNSET


class EntryList(Page):
    """One page of a ledger, newest first."""

    data: list[Entry]


class NewKey(Struct, forbid_unknown_fields=True, kw_only=True):
    """A new API key."""

    account_id: str
    name: str
    expires_at: SentTime | UnsetType = UNSET
    models: Annotated[list[str] | None, about("The only models it may use.")] | UnsetType = UNSET
    limits: SentKeyLimits | UnsetType | None = UNSET


class Key(Struct, kw_only=True):
    """An API key, without its secret."""

    object: Literal["key"]
    id: str
    account_id: str
    name: str
    shown: Annotated[str, about("Prefix and last four characters.")]
    state: str
    version: int
    created_at: Time
    changed_at: Time
    expires_at: Time | None
    models: list[str] | None
    limits: LimitValues
    published: (
        Annotated[bool, about("Whether all workers know of the change; false: they will soon.")]
        | UnsetType
    ) = UNSET
    key: Annotated[str, about("The secret: only in the response that creates it.")] | UnsetType = (
        UNSET
    )


class KeyList(Page):
    """One page of keys."""

    data: list[Key]


class NewCodes(Struct, forbid_unknown_fields=True, kw_only=True):
    """Redemption codes, each worth the amount in dollars or nano-dollars."""

    amount: Dollars | UnsetType | None = UNSET
    amount_nanousd: NanoDollars | UnsetType | None = UNSET
    count: int | UnsetType = UNSET
    note: str | UnsetType | None = UNSET
    expires_at: SentTime | UnsetType = UNSET


class Code(Struct, kw_only=True):
    """A redemption code, without its secret."""

    object: Literal["code"]
    id: str
    ends_in: str
    amount: Dollars
    amount_nanousd: NanoDollars
    state: str
    note: str | None
    created_at: Time
    created_by: str
    expires_at: Time | None
    redeemed_at: Time | None
    redeemed_by: str | None
    code: Annotated[str, about("The secret: only in the response that creates it.")] | UnsetType = (
        UNSET
    )


class CodeList(Page):
    """One page of codes."""

    data: list[Code]


class CreatedCodes(Struct):
    """The codes that were created, with their secrets."""

    object: Literal["list"]
    data: list[Code]


class MarginRow(UsageRow, kw_only=True):
    """Sums of calls with what they cost upstream."""

    account: str | UnsetType = UNSET
    deployment: str | UnsetType = UNSET
    upstream_cost: Dollars
    upstream_cost_nanousd: NanoDollars
    margin: Dollars
    margin_nanousd: NanoDollars
    calls_without_cost: Annotated[int, about("Calls whose upstream cost is unknown.")]


class MarginReport(Struct):
    """Usage with margin."""

    object: Literal["list"]
    data: list[MarginRow]
    has_more: bool


class CallObject(Struct, kw_only=True):
    """Everything that is recorded about one call."""

    object: Literal["call"]
    request_id: str
    at_ms: int
    key_id: str
    account_id: str
    model: str
    endpoint: str
    status: int
    outcome: str
    provider: str | None
    upstream_model: str | None
    input_tokens: int
    output_tokens: int
    cost: Dollars
    cost_nanousd: NanoDollars
    upstream_cost: str | None
    upstream_cost_nanousd: int | None


class CallList(Struct):
    """Calls, newest first."""

    object: Literal["list"]
    data: list[CallObject]


class AuditEntry(Struct, kw_only=True):
    """One change."""

    id: int
    at_ms: int
    actor: Annotated[str, about("`admin`, `admin:<x-actor>`, `cli:<user>`, ...")]
    action: Annotated[str, about("`account.create`, `key.revoke`, `credits.topup`, ...")]
    object: Annotated[str, about("Id of the changed object.")]
    before: Annotated[dict[str, Any] | None, about("Null: the change created the object.")]
    after: dict[str, Any] | None
    request_id: str | None
    address: str | None


class AuditList(Page):
    """One page of the audit log, newest first."""

    data: list[AuditEntry]


class Reconciliation(Struct, kw_only=True):
    """All balances, recomputed from the ledger."""

    object: Literal["reconciliation"]
    accounts: Annotated[int, about("How many were checked.")]
    entries: Annotated[int, about("How many were checked.")]
    differences: list[dict[str, Any]]


class ProbeRequest(Struct):
    """The deployment to probe."""

    deployment: Annotated[str, about("Its label, `provider/model`.")]


class ProbeCredential(Struct, kw_only=True):
    """What the upstream responded to one credential."""

    credential: Annotated[int, about("Its place in the configuration, from 1.")]
    accepted: Annotated[bool, about("It works, even if the call was refused otherwise.")]
    status: Annotated[int, about("The HTTP status; 0: there was no response.")]
    failure: str | None
    message: Annotated[str, about("The upstream's, verbatim.")]
    ms: int


class Probe(Struct, kw_only=True):
    """The outcome of a probe."""

    object: Literal["probe"]
    deployment: str
    accepted: Annotated[bool, about("At least one credential works.")]
    credentials: list[ProbeCredential]
