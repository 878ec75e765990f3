"""Operations on redemption codes, and on the records: usage, calls, audit log, reconciliation."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.core.model import CallRecord
from gateway.operations.refusals import UnknownCallError
from gateway.operations.values import InvalidValueError, check_expiry
from gateway.store.accounts.audit import EVERY_ENTRY, Actor, AuditEntry, AuditFilter, AuditLog
from gateway.store.accounts.codes import MAX_CODES, Code, CodeDetails, Codes, NewCode
from gateway.store.accounts.reconcile import Reconciliation, reconcile
from gateway.store.sql.database import Database
from gateway.store.usage.reports import CallFilter, GroupBy, UsageQueries, UsageReport, UsageReports
from gateway.store.usage_sums.rebuild import UsageRebuild, rebuild_usage


class CodeOperations:
    def __init__(self, database: Database) -> None:
        self._codes = Codes(database)

    async def create(self, details: CodeDetails, count: int, by: Actor) -> list[NewCode]:
        """
        Create `count` codes; only this result contains them in full.

        Raises:
            InvalidValueError: The count or the expiry is out of range.
            AmountError: The amount is out of range.
        """
        if not 1 <= count <= MAX_CODES:
            raise InvalidValueError("count", f"must be from 1 to {MAX_CODES}")
        check_expiry(details.expires_at, time.time())
        return await self._codes.create(details, by, count)

    async def list(self, *, after: str = "", limit: int = 1000) -> Sequence[Code]:
        """Return up to `limit` codes after the id `after`, oldest first."""
        return await self._codes.list(after=after, limit=limit)

    async def revoke(self, code_id: str, by: Actor) -> Code:
        """Revoke an open code; raises UnknownCodeError, CodeSpentError."""
        return await self._codes.revoke(code_id, by)

    async def is_open(self, raw: str) -> bool:
        """Return whether a code, as typed, can be redeemed now."""
        return await self._codes.is_open(raw)


class RecordOperations:
    """Reads usage, calls and the audit log. Calls appear within seconds of their end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._audit = AuditLog(database)
        self._calls = UsageQueries(database)
        self._reports = UsageReports(database)

    async def usage(
        self, groups: Sequence[GroupBy], which: CallFilter, *, max_lines: int
    ) -> UsageReport:
        """Sum up calls, tokens and money by `groups`."""
        return await self._reports.report(groups, which, max_lines=max_lines)

    async def calls(self, limit: int, which: CallFilter) -> list[CallRecord]:
        """Return the last calls, newest first."""
        return await self._calls.last_calls(limit, which)

    async def call(self, request_id: str) -> CallRecord:
        """Return one call; raises UnknownCallError."""
        event = await self._calls.call(request_id)
        if event is None:
            raise UnknownCallError(request_id)
        return event

    async def audit(
        self,
        *,
        object_id: str | None = None,
        which: AuditFilter = EVERY_ENTRY,
        before_id: int | None = None,
        limit: int,
    ) -> Sequence[AuditEntry]:
        """Return changes before the entry `before_id`, newest first."""
        return await self._audit.list(
            object_id=object_id, which=which, before_id=before_id, limit=limit
        )

    async def reconcile(self) -> Reconciliation:
        """Recompute balances from the ledger and return the differences."""
        return await reconcile(self._database)

    async def rebuild_usage(self, *, retention_days: int) -> UsageRebuild:
        """Make the usage sums equal to the usage events that are kept for `retention_days`."""
        now_ms = int(time.time() * 1000)
        return await rebuild_usage(self._database, retention_days=retention_days, now_ms=now_ms)
