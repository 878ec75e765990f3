"""Refusals of operations: one wording and one status for the command line and the API."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorKind
from gateway.operations.refusals import REFUSALS, AmbiguousNameError, UnknownCallError, refusal
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    AmountError,
    IdempotencyConflictError,
    UnknownChargeError,
)
from gateway.store.keys.repository import KeyRevokedError, UnknownKeyError


@pytest.mark.parametrize(
    ("error", "kind", "code", "param"),
    [
        (UnknownAccountError("x7"), ErrorKind.UNKNOWN_PATH, "account_not_found", "account_id"),
        (AmbiguousNameError("x7"), ErrorKind.CONFLICT, None, None),
        (UnknownKeyError("x7"), ErrorKind.UNKNOWN_PATH, "key_not_found", "key_id"),
        (UnknownCodeError(), ErrorKind.UNKNOWN_PATH, "code_not_found", "code_id"),
        (UnknownChargeError("x7"), ErrorKind.UNKNOWN_PATH, "charge_not_found", "request_id"),
        (UnknownCallError("x7"), ErrorKind.UNKNOWN_PATH, "call_not_found", None),
        (KeyRevokedError("x7"), ErrorKind.CONFLICT, "key_revoked", None),
        (AlreadyRefundedError("x7"), ErrorKind.CONFLICT, "already_refunded", None),
        (CodeSpentError("x7"), ErrorKind.CONFLICT, "code_spent", None),
        (IdempotencyConflictError("x7"), ErrorKind.IDEMPOTENCY_MISMATCH, None, None),
        (AmountError("x7"), ErrorKind.BAD_REQUEST, "invalid_amount", "amount"),
    ],
)
def test_refusal_names_its_subject_and_keeps_its_code(
    error: Exception, kind: ErrorKind, code: str | None, param: str | None
) -> None:
    """The message contains the exception's argument; kind, code and param are public."""
    shown = refusal(error)

    assert isinstance(error, REFUSALS)
    assert (shown.kind, shown.code, shown.param) == (kind, code, param)
    assert all(str(argument) in shown.message for argument in error.args)
    assert shown.message.endswith(".")
