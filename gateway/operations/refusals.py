"""Converts the exceptions of refused operations to `GatewayError`s with a message."""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.accounts import AccountClosedError, UnknownAccountError
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    AmountError,
    IdempotencyConflictError,
    UnknownChargeError,
)
from gateway.store.announcements.incidents import IncidentResolvedError, UnknownIncidentError
from gateway.store.announcements.notices import UnknownNoticeError
from gateway.store.catalogue.records import MOST_ENTRIES, CatalogueFullError, UnknownEntryError
from gateway.store.keys.repository import KeyRevokedError, UnknownKeyError
from gateway.store.people.links import OperatorExistsError
from gateway.store.people.users import LastOwnerError, LoginTakenError, UnknownUserError
from gateway.store.usage.dead_letters import (
    StreamFullError,
    UnknownLetterError,
    UnreadableLetterError,
)


class AmbiguousNameError(Exception):
    """Several accounts have the name."""


class EntryInUseError(Exception):
    """Without the provider or model, others could not be served: its name and what is wrong."""


class EntryOfFileError(Exception):
    """The provider or model is in the configuration file: its kind and name."""


class CatalogueOffError(Exception):
    """`catalogue.sql` is false."""


class UnknownCallError(LookupError):
    """No call with this id is recorded."""


class UnknownDeploymentError(LookupError):
    """No model has a deployment with this label."""


class ProbedLatelyError(Exception):
    """The deployment was probed a moment ago."""


class ProbeTimedOutError(Exception):
    """No worker sent a probe in time."""


class _Refusal(NamedTuple):
    kind: ErrorKind
    message: str  # {0} is the exception's argument
    code: str | None = None
    param: str | None = None


_NOT_FOUND = ErrorKind.UNKNOWN_PATH
_TABLE: dict[type[Exception], _Refusal] = {
    UnknownAccountError: _Refusal(
        _NOT_FOUND, "Account '{0}' does not exist.", "account_not_found", "account_id"
    ),
    AccountClosedError: _Refusal(
        ErrorKind.CONFLICT,
        "Account '{0}' was closed by its owners. Create another account.",
        "account_closed",
    ),
    AmbiguousNameError: _Refusal(
        ErrorKind.CONFLICT, "Several accounts are named '{0}'. Use the account's id."
    ),
    UnknownKeyError: _Refusal(_NOT_FOUND, "Key '{0}' does not exist.", "key_not_found", "key_id"),
    UnknownCodeError: _Refusal(
        _NOT_FOUND, "This code does not exist.", "code_not_found", "code_id"
    ),
    UnknownChargeError: _Refusal(
        _NOT_FOUND,
        "No charge is recorded for call '{0}'. "
        "A charge is recorded within seconds of the call's end.",
        "charge_not_found",
        "request_id",
    ),
    UnknownCallError: _Refusal(
        _NOT_FOUND,
        "Call '{0}' was not found: it is not recorded yet, or past its retention.",
        "call_not_found",
    ),
    KeyRevokedError: _Refusal(
        ErrorKind.CONFLICT,
        "Key '{0}' is revoked and can no longer be changed. Create a new key.",
        "key_revoked",
    ),
    AlreadyRefundedError: _Refusal(
        ErrorKind.CONFLICT, "Call '{0}' has already been refunded.", "already_refunded"
    ),
    CodeSpentError: _Refusal(ErrorKind.CONFLICT, "This code is already {0}.", "code_spent"),
    IdempotencyConflictError: _Refusal(
        ErrorKind.IDEMPOTENCY_MISMATCH,
        "Idempotency key '{0}' was already used for a different ledger entry.",
    ),
    UnknownUserError: _Refusal(_NOT_FOUND, "User '{0}' does not exist.", "user_not_found"),
    LoginTakenError: _Refusal(
        ErrorKind.CONFLICT, "'{0}' is the sign-in name of another user. Choose another one."
    ),
    LastOwnerError: _Refusal(
        ErrorKind.CONFLICT,
        "Account '{0}' would be left without an owner. Make another member an owner first.",
    ),
    OperatorExistsError: _Refusal(
        ErrorKind.CONFLICT,
        "An operator already exists. Use `capio users link NAME` to create a sign-in link.",
    ),
    UnknownIncidentError: _Refusal(
        _NOT_FOUND, "Incident '{0}' does not exist.", "incident_not_found", "incident_id"
    ),
    IncidentResolvedError: _Refusal(
        ErrorKind.CONFLICT,
        "Incident '{0}' is resolved, or has as many updates as it may. Open a new one.",
        "incident_resolved",
    ),
    UnknownNoticeError: _Refusal(
        _NOT_FOUND, "Notice '{0}' does not exist.", "notice_not_found", "notice_id"
    ),
    UnknownLetterError: _Refusal(
        _NOT_FOUND,
        "Dead letter '{0}' does not exist: it was requeued, or is past its retention.",
        "dead_letter_not_found",
    ),
    UnreadableLetterError: _Refusal(
        ErrorKind.CONFLICT,
        "Dead letter '{0}' is not a usage event. See docs/operations.md, Dead letters.",
        "dead_letter_unreadable",
    ),
    StreamFullError: _Refusal(
        ErrorKind.CONFLICT,
        "The usage stream is full, since the ledger is behind. Send '{0}' again later.",
        "stream_full",
    ),
    UnknownDeploymentError: _Refusal(
        _NOT_FOUND,
        "No model has the deployment '{0}'. Labels are 'provider/model', see /admin-ui/providers.",
        "deployment_not_found",
        "deployment",
    ),
    ProbedLatelyError: _Refusal(
        ErrorKind.CONFLICT,
        "'{0}' was probed a moment ago. Wait 3 seconds: each probe is a call that is charged.",
        "probed_lately",
    ),
    ProbeTimedOutError: _Refusal(
        ErrorKind.STORE_UNAVAILABLE,
        "No worker sent a probe of '{0}' in time. See whether workers run and reach Redis.",
        "probe_unanswered",
    ),
    UnknownEntryError: _Refusal(
        _NOT_FOUND,
        "There is no {0} '{1}'. Names are case-sensitive.",
        "entry_not_found",
    ),
    EntryOfFileError: _Refusal(
        ErrorKind.CONFLICT,
        "The {0} '{1}' is in the configuration file. Remove it there, then `capio reload`.",
        "entry_of_file",
    ),
    EntryInUseError: _Refusal(
        ErrorKind.CONFLICT,
        "Without this '{0}', others could no longer be served. Change them first.\n{1}",
        "entry_in_use",
    ),
    CatalogueOffError: _Refusal(
        ErrorKind.CONFLICT,
        "The catalogue in SQL is switched off. Set catalogue.sql = true, or change the file.",
        "catalogue_off",
    ),
    CatalogueFullError: _Refusal(
        ErrorKind.CONFLICT,
        f"SQL has {MOST_ENTRIES} providers and models, the most it may have. Delete some.",
        "catalogue_full",
    ),
    AmountError: _Refusal(
        ErrorKind.BAD_REQUEST, "This amount cannot be booked: {0}.", "invalid_amount", "amount"
    ),
}

REFUSALS = tuple(_TABLE)


def refusal(error: Exception) -> GatewayError:
    """Return one of `REFUSALS` as the error to report."""
    kind, message, code, param = _TABLE[type(error)]
    return GatewayError(kind, message.format(*error.args), param=param, code=code)
