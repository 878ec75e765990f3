"""The operators' API below `/admin/`."""

from __future__ import annotations

from typing import Final

from gateway.console.openapi.admin_operation import AFTER, LIMIT, admin_operation
from gateway.console.openapi.catalogue import CATALOGUE, catalogue_operations
from gateway.console.openapi.operation import Api, Operation, Parameter, Success
from gateway.console.openapi.shapes import announcements
from gateway.console.openapi.shapes import operators as shapes

ACCOUNTS: Final = "Accounts"
KEYS: Final = "Keys"
CODES: Final = "Codes"
RECORDS: Final = "Records"
SERVICE: Final = "Service"

_SCHEMES: Final = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer` and the token of `[admin]`.",
    }
}
_BEFORE: Final = Parameter("before", "query", "`next` of the previous page.")
_FROM: Final = Parameter("from", "query", "An ISO date or time, or Unix seconds.")
_TO: Final = Parameter("to", "query", "The end, in the same form; exclusive.")
_ACCOUNT: Final = Parameter("account_id", "query", "Only of this account.")
_KEY: Final = Parameter("key_id", "query", "Only of this key.")
_REASON: Final = {"reason": "invoice 17"}
_LIMITS: Final = {"rpm": 600, "tpm": 2_000_000, "concurrency": 50, "budget_month": "500"}


def operators_api(base_url: str, model: str, brand: str = "Capio") -> Api:
    """
    Return the operators' API.

    Args:
        base_url: Of the service.
        model: A model for the examples.
        brand: The service's name.
    """
    return Api(
        title=f"{brand} admin API",
        description="The operators' API. It exists only if the settings contain a token. Amounts"
        " are returned twice, as decimal dollars and in nano-dollars, and accepted in either form."
        " Every change is written to the audit log. Errors have OpenAI's shape.",
        base_url=base_url,
        operations=(
            *_accounts(),
            *_money(),
            *_keys(model),
            *_codes(),
            *_service(),
            *catalogue_operations(model),
            *_announcements(),
            *_records(),
        ),
        schemes=_SCHEMES,
        tags={
            ACCOUNTS: "Accounts, their limits, their balance and its ledger.",
            KEYS: "API keys and their limits.",
            CODES: "Codes that add credit when a client redeems them.",
            CATALOGUE: "Providers and models, of the configuration file and of SQL.",
            SERVICE: "Probes, dead letters, incidents on the status page, notices on all pages.",
            RECORDS: "Usage, calls, the audit log, and the check of all balances.",
        },
    )


def _accounts() -> tuple[Operation, ...]:
    account = Success(shapes.Account, "The account.")
    limits = Success(shapes.LimitValues, "The limits.")
    return (
        admin_operation(
            *("GET", "accounts", ACCOUNTS),
            ("List accounts", "Accounts, oldest first."),
            Success(shapes.AccountList, "One page."),
            parameters=(
                AFTER,
                LIMIT,
                Parameter("name", "query", "Only accounts with this name."),
            ),
        ),
        admin_operation(
            *("POST", "accounts", ACCOUNTS),
            ("Create an account", "A new account, prepaid by default, with a balance of 0."),
            Success(shapes.Account, "The account.", status=201),
            request=shapes.NewAccount,
            body={"name": "acme", "billing": "postpaid", "credit_limit": "100"},
        ),
        admin_operation(
            *("GET", "accounts/{id}", ACCOUNTS),
            ("Get an account", "One account with balance, terms and limits."),
            account,
        ),
        admin_operation(
            *("PATCH", "accounts/{id}", ACCOUNTS),
            ("Change an account", "Changes name or terms; absent members stay as they are."),
            account,
            request=shapes.AccountChange,
            body={"name": "acme GmbH"},
        ),
        admin_operation(
            *("GET", "accounts/{id}/limits", ACCOUNTS),
            ("Get an account's limits", "Its limits; null: none."),
            limits,
        ),
        admin_operation(
            *("PUT", "accounts/{id}/limits", ACCOUNTS),
            ("Replace an account's limits", "Sets all limits; absent ones are removed."),
            limits,
            request=shapes.SentLimits,
            body=_LIMITS,
        ),
    )


def _money() -> tuple[Operation, ...]:
    key = Parameter("idempotency-key", "header", "Requests with the same key book once.")
    return (
        admin_operation(
            *("GET", "accounts/{id}/ledger", ACCOUNTS),
            ("List ledger entries", "Its ledger entries, newest first."),
            Success(shapes.EntryList, "One page."),
            parameters=(_BEFORE, LIMIT),
        ),
        admin_operation(
            *("POST", "accounts/{id}/credits", ACCOUNTS),
            (
                "Book a top-up or adjustment",
                "Changes the balance. A repetition with the same"
                " idempotency key gets 200 and the first entry.",
            ),
            Success(shapes.Entry, "The entry.", status=201),
            request=shapes.Booking,
            parameters=(key,),
            body={"amount": "25", **_REASON},
        ),
        admin_operation(
            *("POST", "calls/{id}/refund", ACCOUNTS),
            (
                "Refund a call",
                "Refunds its charge with corrections, at most once. `id` is the"
                " call's `x-request-id`.",
            ),
            Success(shapes.Entry, "The entry.", status=201),
            request=shapes.Reason,
            body={"reason": "empty response"},
        ),
    )


def _keys(model: str) -> tuple[Operation, ...]:
    key = Success(shapes.Key, "The key.")
    return (
        admin_operation(
            *("GET", "keys", KEYS),
            ("List keys", "Keys, oldest first, without their secrets."),
            Success(shapes.KeyList, "One page."),
            parameters=(_ACCOUNT, AFTER, LIMIT),
        ),
        admin_operation(
            *("POST", "keys", KEYS),
            ("Create a key", "Creates a key. Its secret is in this response only."),
            Success(shapes.Key, "The key with its secret.", status=201),
            request=shapes.NewKey,
            body={
                "account_id": "acct_1",
                "name": "laptop",
                "expires_at": "2099-12-31",
                "models": [model],
                "limits": {"rpm": 60, "budget_day": "5"},
            },
        ),
        admin_operation(
            *("GET", "keys/{id}", KEYS),
            ("Get a key", "One key, without its secret."),
            key,
        ),
        admin_operation(
            *("POST", "keys/{id}/disable", KEYS),
            ("Disable a key", "All workers reject it within a second; it can be enabled again."),
            key,
        ),
        admin_operation(
            *("POST", "keys/{id}/enable", KEYS),
            ("Enable a key", "Enables a disabled key."),
            key,
        ),
        admin_operation(
            *("GET", "keys/{id}/limits", KEYS),
            ("Get a key's limits", "Its limits, in total and per model; null: none."),
            Success(shapes.LimitValues, "The limits."),
        ),
        admin_operation(
            *("PUT", "keys/{id}/limits", KEYS),
            ("Replace a key's limits", "Sets all limits; absent ones are removed."),
            key,
            request=shapes.SentKeyLimits,
            body={"rpm": 60, "models": {model: {"tpm": 100_000}}},
        ),
        admin_operation(
            *("POST", "keys/{id}/revoke", KEYS),
            ("Revoke a key", "Revokes it permanently, in all workers within a second."),
            key,
        ),
    )


def _codes() -> tuple[Operation, ...]:
    return (
        admin_operation(
            *("GET", "codes", CODES),
            ("List codes", "Redemption codes, oldest first, without their secrets."),
            Success(shapes.CodeList, "One page."),
            parameters=(AFTER, LIMIT),
        ),
        admin_operation(
            *("POST", "codes", CODES),
            ("Create codes", "Creates codes. Their secrets are in this response only."),
            Success(shapes.CreatedCodes, "The codes with their secrets.", status=201),
            request=shapes.NewCodes,
            body={"amount": "10", "count": 2, "note": "workshop", "expires_at": "2099-12-31"},
        ),
        admin_operation(
            *("POST", "codes/{id}/revoke", CODES),
            ("Revoke a code", "Revokes a code that was not redeemed."),
            Success(shapes.Code, "The code."),
        ),
    )


def _service() -> tuple[Operation, ...]:
    return (
        admin_operation(
            *("POST", "probes", SERVICE),
            (
                "Probe a deployment",
                "A worker sends the smallest possible call with each credential of the provider."
                " A deployment that was out and responds takes calls again at once.",
            ),
            Success(shapes.Probe, "What the upstream responded."),
            request=shapes.ProbeRequest,
            body={"deployment": "p/m"},
        ),
        admin_operation(
            *("GET", "dead-letters", SERVICE),
            ("List dead letters", "Usage events that could not be stored, newest first."),
            Success(announcements.LetterList, "One page."),
            parameters=(_BEFORE, LIMIT),
        ),
        admin_operation(
            *("POST", "dead-letters/{id}/requeue", SERVICE),
            ("Requeue a dead letter", "Sends the event to the ledger again; it is booked once."),
            Success(announcements.Letter, "The event."),
        ),
    )


def _announcements() -> tuple[Operation, ...]:
    incident = Success(announcements.Incident, "The incident.", status=201)
    return (
        admin_operation(
            *("GET", "incidents", SERVICE),
            ("List incidents", "Incidents, newest first, with their updates."),
            Success(announcements.IncidentList, "One page."),
            parameters=(_BEFORE, LIMIT),
        ),
        admin_operation(
            *("POST", "incidents", SERVICE),
            ("Open an incident", "Adds an incident to the status page."),
            incident,
            request=announcements.NewIncident,
            body={"title": "Slow first tokens", "text": "We are looking into it."},
        ),
        admin_operation(
            *("POST", "incidents/{id}/updates", SERVICE),
            ("Update an incident", "Adds an update; `resolved` ends the incident."),
            incident,
            request=announcements.NewUpdate,
            body={"state": "resolved", "text": "The provider has repaired it."},
        ),
        admin_operation(
            *("GET", "notices", SERVICE),
            ("List notices", "Notices, newest first."),
            Success(announcements.NoticeList, "One page."),
            parameters=(_BEFORE, LIMIT),
        ),
        admin_operation(
            *("POST", "notices", SERVICE),
            ("Publish a notice", "Shows a banner on all pages within seconds."),
            Success(announcements.Notice, "The notice.", status=201),
            request=announcements.NewNotice,
            body={"text": "Maintenance on Sunday.", "level": "warn", "ends_at": "2099-12-31"},
        ),
        admin_operation(
            *("POST", "notices/{id}/end", SERVICE),
            ("End a notice", "Shows it no longer."),
            Success(announcements.Notice, "The notice."),
        ),
    )


def _records() -> tuple[Operation, ...]:
    groups = "Any of `day,model,key,account,deployment`; default `day`."
    return (
        admin_operation(
            *("GET", "usage", RECORDS),
            ("Get usage with margin", "Sums of calls with what they cost upstream."),
            Success(shapes.MarginReport, "The sums.", csv=True),
            parameters=(
                _FROM,
                _TO,
                Parameter("group_by", "query", groups),
                Parameter("format", "query", "Default `json`.", allowed=("json", "csv")),
                _ACCOUNT,
                _KEY,
            ),
        ),
        admin_operation(
            *("GET", "calls", RECORDS),
            ("List calls", "The last calls, newest first."),
            Success(shapes.CallList, "The calls."),
            parameters=(_FROM, _TO, LIMIT, _ACCOUNT, _KEY),
        ),
        admin_operation(
            *("GET", "calls/{id}", RECORDS),
            ("Get a call", "One call by its `x-request-id`, with deployment and cost."),
            Success(shapes.CallObject, "The call."),
        ),
        admin_operation(
            *("GET", "audit", RECORDS),
            ("List the audit log", "Changes, newest first."),
            Success(shapes.AuditList, "One page."),
            parameters=(
                Parameter("object", "query", "Id of the object."),
                Parameter("actor", "query", "A part of the actor's name."),
                Parameter("action", "query", "What the action begins with: `key.`."),
                _BEFORE,
                LIMIT,
            ),
        ),
        admin_operation(
            *("GET", "reconcile", RECORDS),
            ("Check all balances", "Recomputes all balances from the ledger; changes nothing."),
            Success(shapes.Reconciliation, "The result."),
        ),
    )
