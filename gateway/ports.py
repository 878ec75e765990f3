"""
The protocols through which the pipeline uses stores and upstreams.

`store` and `upstream` implement them; tests use fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from gateway.core.idempotency import Claim, GrantedClaim, StoredResponse
from gateway.core.limits import UNLIMITED, Headroom
from gateway.core.model import CallRecord, Clocks, Endpoint, Model, Origin, Principal, Wire
from gateway.core.routing.health import HealthChange, HealthCounts, HealthState
from gateway.core.stored_responses import Part, SealedParts
from gateway.errors import GatewayError
from gateway.telemetry.traces.records import CallTraceRecord

Headers = list[tuple[bytes, bytes]]
"""Header names are in lower case."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One HTTP request to a provider. `headers` is complete except for content-length."""

    origin: Origin
    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    clocks: Clocks
    head_timeout_s: float
    """From the start of sending to the response head."""
    head: bytes = b""
    """The HTTP/1.1 request line and `headers`, rendered in advance; empty: `send` renders them."""


class BodySink(Protocol):
    """Receives a response body. Methods are called from the loop, never re-entrantly."""

    def body_chunk(self, chunk: bytes) -> None:
        """
        Handle the bytes of one network read, joined.

        May call `pause` or `close` on the response.
        """

    def body_end(self) -> None:
        """The body is complete. Nothing follows."""

    def body_failed(self, error: GatewayError) -> None:
        """The body was cut off (UPSTREAM_BROKEN). Nothing follows."""


class UpstreamResponse(Protocol):
    """
    A response whose head was received. Its owner must drain it or `close` it.

    Reading is paused until `start` or `read`; bytes received with the head are buffered.
    """

    @property
    def status(self) -> int:
        """The HTTP status, never 1xx."""

    @property
    def headers(self) -> Headers:
        """In the upstream's order, with names in lower case and repetitions."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has been received, so that `read` does not wait."""

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink` from now on, starting with buffered bytes."""

    def pause(self) -> None:
        """Stop reading the socket. Idempotent."""

    def resume(self) -> None:
        """Read again after `pause`. Idempotent; pushes nothing before it returns."""

    def close(self) -> None:
        """
        Close the connection unless the body is complete. Idempotent.

        The sink is not called again.
        """

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body; an alternative to `start`.

        Raises:
            GatewayError: UPSTREAM_BROKEN if it is cut off, UPSTREAM_MALFORMED beyond the limit.
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
    """Finds the principals of keys."""

    def cached(self, digest: bytes) -> Principal | None:
        """Return the locally cached principal, without I/O. None: not cached, use `lookup`."""

    async def lookup(self, digest: bytes) -> Principal | None:
        """
        Return the principal of the key with this SHA-256, in any state; None: no such key.

        Searches the local cache, Redis, then SQL; None is cached, too.

        Raises:
            GatewayError: STORE_UNAVAILABLE if neither Redis nor SQL responds.
        """


class UsageLog(Protocol):
    """The journal of calls."""

    async def append(self, event: CallRecord) -> None:
        """Append once; never raises: events that Redis does not accept are spilled to a file."""


class TraceLog(Protocol):
    """Exports the traces of calls."""

    def write(self, record: CallTraceRecord) -> None:
        """Queue one record without blocking."""


class ReservationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a call that admission needs."""

    request_id: str
    principal: Principal
    model: Model
    endpoint: Endpoint
    client_wire: Wire
    stream: bool = False
    input_tokens: int
    """An estimate."""
    max_tokens: int | None = None
    """The longest output that the client requested; None: not given."""
    choices: int = 1
    """Requested choices (`n`); each may be as long as `max_tokens`."""
    input_bound: Callable[[], int | None]
    """Returns an upper bound of the input's tokens; None: only the model's context bounds it."""
    hour_cache: Callable[[], bool] = bool
    """Returns whether the input may be written into a cache of an hour."""
    checkpoint: Callable[[], CallRecord] | None = None
    """
    Returns the record, including its cost, that is to be charged if this process dies now. Called
    every few seconds while the call runs; the hold is raised if the cost nears it.
    """


class Reservation(msgspec.Struct, kw_only=True, eq=False):
    """An admitted call: holds money, tokens and a slot until `settle` or `release`."""

    request: ReservationRequest
    hold_nanousd: int
    worst_nanousd: int
    """The most the call can cost if the upstream honours its limits; at least the hold."""
    tokens: int
    """The tokens taken from tokens per minute."""
    headroom: Headroom = UNLIMITED
    """For the rate-limit headers of the response, see `protocols.http.limit_headers`."""
    degraded: bool = False
    """Admitted without Redis, by this worker alone."""


class Reservations(Protocol):
    """Limits, holds and charges. Every reservation must be settled or released."""

    async def reserve(self, request: ReservationRequest) -> Reservation:
        """
        Admit a call, all or nothing; if cancelled, nothing stays reserved.

        Raises:
            GatewayError: RATE_LIMITED, BUDGET_SPENT, NO_CREDIT (each names the limit, its value and
                when to retry), FORBIDDEN (no such account), STORE_UNAVAILABLE.
        """

    async def settle(self, reservation: Reservation, event: CallRecord) -> None:
        """
        Release the hold, charge `event.cost_nanousd` and journal the event. Never raises.

        Redis or the disk has the event a few milliseconds after the return; until then it is lost
        with the process, and the call is settled as abandoned. If cancelled, the call is still
        settled. The first event of a request id counts.
        """

    async def release(self, reservation: Reservation) -> None:
        """Release the hold of a call that is not recorded. Never raises."""


class AccountCredit(Protocol):
    """Whether accounts have credit, before the cost of their call is known."""

    def is_known_positive(self, account_id: str) -> bool:
        """Return whether Redis last reported credit for the account; no I/O."""

    async def refusal(self, account_id: str) -> GatewayError | None:
        """
        Return a NO_CREDIT error if the account's balance is used up; None if it is not, or unknown.

        While Redis is unavailable, accounts last seen without credit get STORE_UNAVAILABLE.

        Raises:
            GatewayError: FORBIDDEN (no such account).
        """


class SharedHealth(Protocol):
    """Shares the health of deployments with other workers. Never raises, and delays no call."""

    def publish(self, change: HealthChange) -> None:
        """Send a change to all other workers."""

    def add(self, label: str, minute: int, counts: HealthCounts, state: HealthState) -> None:
        """Add counts to the totals of a deployment in one Unix minute."""

    async def claim_probe(self, label: str, kept_s: float | None = None) -> str | None:
        """
        Return the token of this worker's right to probe a deployment; None: another worker probes.

        The right ends after `kept_s`, or soon after the longest active probe. Pass the token to
        `release_probe` when the probe ends. Without Redis every worker may probe.
        """

    def release_probe(self, label: str, token: str) -> None:
        """Let all workers probe again; no effect if the right has passed to another worker."""


class IdempotencyStore(Protocol):
    """The runs of calls with an Idempotency-Key, and their outcomes."""

    async def begin(self, claim: Claim) -> GrantedClaim | StoredResponse:
        """
        Return the right to run the call, or the response of the completed run.

        A returned `GrantedClaim` must be passed to `finish` or `free`; until then it is renewed.

        Raises:
            GatewayError: CONFLICT (another run is in progress), IDEMPOTENCY_COMPLETED (a run was
                charged, but its response is not stored), IDEMPOTENCY_MISMATCH (another body),
                STORE_UNAVAILABLE (Redis is unavailable: the call must not run).
        """

    async def finish(self, granted: GrantedClaim, response: StoredResponse | None) -> None:
        """
        Store the outcome of a charged run; None: there is no complete response to replay.

        Never raises: it is sent until Redis accepts it, even if the task is cancelled.
        """

    async def free(self, granted: GrantedClaim) -> None:
        """Free the key: the run failed without a charge. Never raises."""


class ResponseStore(Protocol):
    """Kept responses of the Responses API, sealed by their clients' keys."""

    async def keep(self, account_id: str, name: bytes, parts: SealedParts) -> bool:
        """Keep a response; return whether it is kept. Never raises."""

    async def fetch(
        self, account_id: str, wanted: Sequence[tuple[bytes, frozenset[Part]]], *, renew: bool
    ) -> list[SealedParts] | None:
        """
        Return the wanted parts that exist, in order; None if they are too large together.

        `renew` restarts the retention period of these responses.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """

    async def forget(self, account_id: str, name: bytes) -> bool:
        """
        Remove a response; return whether there was one.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """
