"""
Bounds on the requests and body bytes that a worker holds, per account and in total.

Limits and credit are checked once the model is known, which is after the body. Until then a request
uses a slot and memory; both are counted here, in the worker, from authentication on.
"""

from __future__ import annotations

from types import TracebackType

from gateway.deadlines import Deadlines
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import AccountCredit
from gateway.settings import Server
from gateway.telemetry.call_metrics import CallMetrics

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are always accepted: `max_in_flight` bounds their sum."""
RATE_GRACE_S = 10.0
"""After this time a body must arrive at `server.min_body_bytes_per_s` on average."""


class _Account:
    """The open requests of one account at this worker."""

    __slots__ = ("body_bytes", "calls", "restricted", "slow")

    def __init__(self) -> None:
        self.body_bytes = 0
        self.calls = 0
        self.restricted = 0
        """Calls without credit whose body is still arriving."""
        self.slow = 0
        """Calls whose body is still arriving after a second."""


class Intake:
    """
    Counts calls and body bytes by account.

    Args:
        limits: The bounds.
        metrics: Shows the bytes.
        credit: Which accounts have credit; None: all.
    """

    def __init__(
        self, limits: Server, metrics: CallMetrics, credit: AccountCredit | None = None
    ) -> None:
        self.limits = limits
        self.timers = Deadlines()
        """Of bodies that are still arriving."""
        # Even with a small `max_in_flight`, one account must leave room for others.
        self._most_calls = min(limits.max_in_flight_per_account, max(1, limits.max_in_flight // 2))
        self._credit = credit
        self.body_bytes = 0
        self._metrics = metrics
        self._accounts: dict[str, _Account] = {}

    @property
    def accounts(self) -> int:
        """The number of accounts with an open call."""
        return len(self._accounts)

    def is_known_to_pay(self, account_id: str) -> bool:
        """Return whether the account is known to have credit; no I/O."""
        return self._credit is None or self._credit.is_known_positive(account_id)

    async def unpaid(self, account_id: str) -> GatewayError | None:
        """Return the error for an account without credit, see `ports.AccountCredit`."""
        return None if self._credit is None else await self._credit.refusal(account_id)

    def enter(self, account_id: str) -> IntakePlace:
        """
        Return one call's share, a context manager that releases it.

        Raises:
            GatewayError: RATE_LIMITED: the account has too many calls at this worker.
        """
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account()
        elif account.calls >= self._most_calls:
            raise _rate_limited(
                f"This account has {account.calls} open requests at one worker of the gateway, "
                "which is the limit. Try again when one has ended."
            )
        account.calls += 1
        return IntakePlace(self, account_id, account)

    def move_bytes(self, size: int) -> None:
        """Count bytes that arrived, or with a negative size were released."""
        self.body_bytes += size
        self._metrics.body_bytes = self.body_bytes

    def count_overload(self) -> None:
        """Count a body that found no room."""
        self._metrics.count_overload("body_bytes")

    def leave(self, account_id: str, account: _Account) -> None:
        """End one call of an account."""
        account.calls -= 1
        if not account.calls:
            del self._accounts[account_id]


class IntakePlace:
    """
    One call's share of the bounds.

    Bytes are counted as bodies arrive; a translated request needs about as much again.
    """

    __slots__ = (
        "_account",
        "_account_id",
        "_body_bytes",
        "_intake",
        "_most_bytes",
        "_restricted",
        "_slow",
        "max_body_bytes",
        "timers",
    )

    def __init__(self, intake: Intake, account_id: str, account: _Account) -> None:
        self._intake = intake
        self._account_id = account_id
        self._account = account
        self._body_bytes = 0
        self._most_bytes = intake.limits.max_buffered_bytes_per_account
        self._slow = False
        self._restricted = False
        self.timers = intake.timers
        self.max_body_bytes = intake.limits.max_body_bytes
        """The largest body that this call may send."""

    def __enter__(self) -> IntakePlace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.body_ended()
        self.release_body()
        self._intake.leave(self._account_id, self._account)

    def restrict(self) -> None:
        """
        Restrict the call to the share of an account without credit.

        Raises:
            GatewayError: RATE_LIMITED: that share is in use.
        """
        limits, account = self._intake.limits, self._account
        if account.restricted >= limits.max_sending_without_credit:
            raise _rate_limited(
                f"Without credit, an account may send {limits.max_sending_without_credit} requests "
                "at a time. Try again when their bodies have arrived, or add credit."
            )
        account.restricted += 1
        self._restricted = True
        self.max_body_bytes = min(limits.max_body_bytes, limits.max_body_bytes_without_credit)
        self._most_bytes = limits.max_sending_without_credit * limits.max_body_bytes_without_credit

    def add(self, size: int) -> None:
        """
        Count bytes of the body that have arrived.

        Raises:
            GatewayError: RATE_LIMITED (the account's bodies), OVERLOADED (those of the worker).
        """
        self.expect(size)
        self._body_bytes += size
        self._account.body_bytes += size
        self._intake.move_bytes(size)

    def expect(self, size: int) -> None:
        """
        Check that there is room for further bytes, without counting them.

        Raises:
            GatewayError: As `add`.
        """
        intake, account = self._intake, self._account
        held = self._body_bytes + size
        if account.body_bytes + size > self._most_bytes:
            raise _rate_limited(
                f"The request bodies of this account at one worker of the gateway would exceed "
                f"{self._most_bytes} bytes. Send fewer large requests at a time."
            )
        if intake.body_bytes + size > intake.limits.max_buffered_bytes and held > SMALL_BODY_BYTES:
            intake.count_overload()
            raise GatewayError(
                ErrorKind.OVERLOADED,
                "Too many large requests are being received. Try again.",
                retry_after_s=1,
            )

    def overdue(self, elapsed_s: float, received_bytes: int) -> GatewayError | None:
        """Return the error of a body that is arriving too slowly; None to keep waiting."""
        limits, account = self._intake.limits, self._account
        if not self._slow:
            if account.slow >= limits.max_sending_per_account:
                return _rate_limited(
                    f"{account.slow} requests of this account are still sending their body to one "
                    "worker of the gateway, which is the limit. Send each body at once."
                )
            self._slow = True
            account.slow += 1
        if elapsed_s >= RATE_GRACE_S and received_bytes < elapsed_s * limits.min_body_bytes_per_s:
            return GatewayError(
                ErrorKind.BODY_TIMEOUT,
                f"The request body arrived at less than {limits.min_body_bytes_per_s} bytes per "
                f"second over {elapsed_s:g} seconds.",
            )
        return None

    def body_ended(self) -> None:
        """Uncount the call among those whose body is arriving. Idempotent."""
        if self._slow:
            self._slow = False
            self._account.slow -= 1
        if self._restricted:
            self._restricted = False
            self._account.restricted -= 1

    def release_body(self) -> None:
        """Uncount the body's bytes. Idempotent."""
        size = self._body_bytes
        if size:
            self._body_bytes = 0
            self._account.body_bytes -= size
            self._intake.move_bytes(-size)


def _rate_limited(message: str) -> GatewayError:
    return GatewayError(ErrorKind.RATE_LIMITED, message, retry_after_s=1)
