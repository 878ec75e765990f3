"""
The replies of `lua/reserve.lua` as typed values.

Fields are in the script's order; what costs time to convert is a property, computed on demand.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

import msgspec

from gateway.core.limits import UNLIMITED, Headroom, LimitName, Room
from gateway.store.redis.connection import Reply, ReplyError

_LIMITS: Final = {
    1: LimitName.CREDIT,
    2: LimitName.BUDGET_TOTAL,
    3: LimitName.BUDGET_MONTH,
    4: LimitName.BUDGET_DAY,
    5: LimitName.CONCURRENCY,
    6: LimitName.RPM,
    7: LimitName.TPM,
    8: LimitName.EXPOSURE,
    9: LimitName.SMALL_BALANCE,
}
# The first element of a reply.
_REFUSED: Final = 0
_ADMITTED: Final = 1
_NEEDS_LOAD: Final = 2
_FAILED: Final = 3


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The call is admitted."""

    stale: int
    """1: the account is due to be loaded again."""
    available: int | bytes
    """What the account may still spend, nano-dollars; empty: unlimited."""
    rpm: int
    """The tightest requests per minute of the call's scopes; -1: not limited."""
    rpm_remaining: int
    rpm_reset_ms: int
    tpm: int
    """The tightest tokens per minute; -1: not limited."""
    tpm_remaining: int
    tpm_reset_ms: int
    account_limits: bytes | None
    """The account's `LimitRow` packed, empty without limits; None: the call was admitted before."""
    room: int | bytes
    """What further calls may cost at most, nano-dollars; empty: not bounded."""

    @property
    def headroom(self) -> Headroom:
        """The values of the rate-limit headers."""
        return _headroom(self)


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A limit refuses the call."""

    limit: int
    scope: int
    """1: the account; otherwise 2 + the index of the key's row."""
    value: int
    remaining: int
    asked: int
    retry_ms: int
    """-1: waiting does not help."""
    rpm: int
    rpm_remaining: int
    rpm_reset_ms: int
    tpm: int
    tpm_remaining: int
    tpm_reset_ms: int

    @property
    def name(self) -> LimitName:
        """The limit that refuses."""
        return _LIMITS[self.limit]

    @property
    def retry_after_ms(self) -> int | None:
        """When the call may succeed; None: not by waiting."""
        return None if self.retry_ms < 0 else self.retry_ms

    @property
    def headroom(self) -> Headroom:
        """The values of the rate-limit headers."""
        return _headroom(self)


class NeedsLoad(msgspec.Struct, frozen=True):
    """Redis lacks the account, or the spending of some scopes."""

    epoch: bytes | None
    """The shard's epoch; None: the shard is empty."""
    scopes: list[bytes]
    """The names of scopes whose spending is missing."""


ReserveReply: TypeAlias = Admitted | Refused | NeedsLoad


def read_reply(reply: Reply) -> ReserveReply:
    """
    Return the script's reply to one call, whose layout is described in its header.

    Raises:
        ReplyError: The script failed for this call, for example because of malformed fields.
    """
    fields = cast("list[Any]", reply)
    kind = fields[0]
    if kind == _ADMITTED:
        return Admitted(*fields[1:])
    if kind == _REFUSED:
        return Refused(*map(int, fields[1:]))  # large numbers are text
    if kind == _FAILED:
        raise ReplyError(bytes(fields[1]).decode(errors="replace"))
    assert kind == _NEEDS_LOAD
    return NeedsLoad(fields[1], fields[3:])


def _headroom(reply: Admitted | Refused) -> Headroom:
    if reply.rpm < 0 and reply.tpm < 0:
        return UNLIMITED
    return Headroom(
        None if reply.rpm < 0 else Room(reply.rpm, reply.rpm_remaining, reply.rpm_reset_ms),
        None if reply.tpm < 0 else Room(reply.tpm, reply.tpm_remaining, reply.tpm_reset_ms),
    )
