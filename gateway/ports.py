"""
What the pipeline needs from the outside, as narrow protocols.

`store` and `upstream` implement these; tests bring fakes. Nothing in here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.core.idempotency import Claim, Hold, StoredResponse
from gateway.core.limits import UNLIMITED, Headroom
from gateway.core.model import Clocks, Endpoint, Model, Origin, Principal, UsageEvent, Wire
from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]
"""Header names are lower case on our side of the parser."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One HTTP request to a provider. `headers` is complete but for content-length."""

    origin: Origin
    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    clocks: Clocks
    head_timeout_s: float
    """From the start of sending to the response head."""


class BodySink(Protocol):
    """Where a response body is pushed. All three are called from the loop, never re-entrantly."""

    def body_chunk(self, chunk: bytes) -> None:
        """
        Take everything that one network read brought, joined.

        May call `pause` or `close` on the response.
        """

    def body_end(self) -> None:
        """Learn that the body is complete. Nothing follows."""

    def body_failed(self, error: GatewayError) -> None:
        """Learn that the body broke off (UPSTREAM_BROKEN). Nothing follows."""


class UpstreamResponse(Protocol):
    """
    A response whose head has come. Its owner must drain it or `close` it.

    Reading is paused until `start` or `read`; what came with the head waits in a bounded buffer.
    """

    @property
    def status(self) -> int:
        """The HTTP status, never 1xx."""

    @property
    def headers(self) -> Headers:
        """Names in lower case, in the upstream's order, repeated ones repeated."""

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink` from now on, first what has already come."""

    def pause(self) -> None:
        """Stop reading the socket. Idempotent."""

    def resume(self) -> None:
        """Read again after `pause`. Idempotent; pushes nothing before it returns."""

    def close(self) -> None:
        """Drop the connection unless the body is complete; the sink hears no more. Idempotent."""

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body; an alternative to `start`.

        Raises:
            GatewayError: UPSTREAM_BROKEN when it breaks off, UPSTREAM_MALFORMED beyond the limit.
        """


class Transport(Protocol):
    """Sends requests to upstreams; owns the connections of one worker."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """
        Send and wait for the response head.

        Cancelling closes the connection.

        Raises:
            GatewayError: UPSTREAM_CONNECT (nothing was sent: safe to repeat), UPSTREAM_BROKEN,
                UPSTREAM_MALFORMED, UPSTREAM_TIMEOUT, OVERLOADED (the pool is full).
        """

    async def aclose(self) -> None:
        """Close every connection."""


class KeyDirectory(Protocol):
    """Who a key speaks for."""

    def cached(self, digest: bytes) -> Principal | None:
        """Return what the near cache holds, without I/O. None: not known here, use `lookup`."""

    async def lookup(self, digest: bytes) -> Principal | None:
        """
        Return the principal of the key with this SHA-256, whatever its state; None: no such key.

        Near cache, then Redis, then SQL; both answers are cached.

        Raises:
            GatewayError: STORE_UNAVAILABLE when neither Redis nor SQL answers.
        """


class UsageLog(Protocol):
    """The journal of calls."""

    async def append(self, event: UsageEvent) -> None:
        """Append once; never raises: what Redis does not take is spilled to a local file."""


class ReserveAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a call to admit it."""

    request_id: str
    principal: Principal
    model: Model
    endpoint: Endpoint
    client_wire: Wire
    stream: bool = False
    input_tokens: int
    """An estimate."""
    max_tokens: int | None = None
    """The longest output that the caller asked for; None: it did not say."""
    choices: int = 1
    """Answers asked for (`n`); each may be as long as `max_tokens`."""
    input_bound: Callable[[], int | None]
    """Returns an upper bound of the input's tokens; None: only the model's context bounds it."""
    hour_cache: Callable[[], bool] = bool
    """Returns whether the input may be written into a cache of an hour."""


class Reservation(msgspec.Struct, kw_only=True, eq=False):
    """
    An admitted call: holds money, tokens and a slot until `settle`.

    Its owner may set `checkpoint`: it is called every few seconds while the call runs, and returns
    the event that would be recorded if the call ended now, its cost included. That is what is
    charged if this process dies; and when it nears the hold, the hold is raised.
    """

    ask: ReserveAsk
    hold_nanousd: int
    worst_nanousd: int
    """What the call can cost at most if the upstream honours its limits; at least the hold."""
    tokens: int
    """What was taken from tokens a minute."""
    headroom: Headroom = UNLIMITED
    """For the rate-limit headers of the answer, see `protocols.http.limit_headers`."""
    degraded: bool = False
    """Admitted without Redis, by this worker alone."""
    checkpoint: Callable[[], UsageEvent] | None = None


class Reservations(Protocol):
    """Limits, holds and charges. Who reserves must settle, whatever happens."""

    async def reserve(self, ask: ReserveAsk) -> Reservation:
        """
        Admit a call, all or nothing.

        Cancelled, it leaves nothing behind.

        Raises:
            GatewayError: RATE_LIMITED, BUDGET_SPENT, NO_CREDIT (each names the limit, its value and
                when to retry), FORBIDDEN (no such account), STORE_UNAVAILABLE.
        """

    async def settle(self, reservation: Reservation, event: UsageEvent) -> None:
        """
        Give back what was held, charge `event.cost_nanousd` and journal the event. Never raises.

        On return the event is in Redis or on disk. Cancelled, it still settles. The first event of
        a request id counts.
        """

    async def release(self, reservation: Reservation) -> None:
        """Give back what was held of a call that is not recorded as a call. Never raises."""


class AccountCredit(Protocol):
    """Whether accounts have credit, before it is known what their call would cost."""

    def is_known_positive(self, account_id: str) -> bool:
        """Return whether Redis last reported credit for the account; no I/O."""

    async def refusal(self, account_id: str) -> GatewayError | None:
        """
        Return NO_CREDIT for an account whose balance is used up; None: it is not, or not known.

        While Redis is away it is STORE_UNAVAILABLE for accounts that had no credit before.

        Raises:
            GatewayError: FORBIDDEN (no such account).
        """


class IdempotencyStore(Protocol):
    """Who runs a call that carries an Idempotency-Key, and what became of it."""

    async def begin(self, claim: Claim) -> Hold | StoredResponse:
        """
        Return the right to run the call, or the answer of the run that is done.

        Whoever gets a `Hold` must `finish` or `free` it; until then it is renewed.

        Raises:
            GatewayError: CONFLICT (another run is under way), IDEMPOTENCY_COMPLETED (a run was
                charged, but its answer is not kept), IDEMPOTENCY_MISMATCH (another body),
                STORE_UNAVAILABLE (Redis is away: nothing may be run).
        """

    async def finish(self, hold: Hold, answer: StoredResponse | None) -> None:
        """
        Keep the outcome of a run that was charged; None: there is no whole answer to repeat.

        Never raises: what Redis does not take is offered again until it does, also when the
        caller is cancelled.
        """

    async def free(self, hold: Hold) -> None:
        """Let the key be used again: the run failed without a charge. Never raises."""
