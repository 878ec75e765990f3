"""Calls with an Idempotency-Key: run once, kept when whole, freed when they failed for nothing."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.core.idempotency import Claim, GrantedClaim, StoredResponse
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.idempotency import Idempotent
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    JSON,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
    openai_event,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
KEYED = [(b"idempotency-key", b"order-17")]


class MemoryStore:
    """Grants every claim, or returns what is known of it; records the outcomes."""

    def __init__(self, known: StoredResponse | GatewayError | None = None) -> None:
        self.ends: list[object] = []
        self._known = known

    async def begin(self, claim: Claim) -> GrantedClaim | StoredResponse:
        if isinstance(self._known, GatewayError):
            raise self._known
        return self._known or GrantedClaim(claim, b"t" * 16)

    async def finish(self, hold: GrantedClaim, answer: StoredResponse | None) -> None:
        self.ends.append(answer)

    async def free(self, hold: GrantedClaim) -> None:
        self.ends.append("freed")


class Keyed:
    """A worker that keeps the promise, and its store."""

    def __init__(
        self,
        *steps: object,
        known: StoredResponse | GatewayError | None = None,
        drains: bool = False,
    ) -> None:
        self.store = MemoryStore(known)
        self.bench = Bench(
            *steps,  # type: ignore[arg-type]
            idempotent=Idempotent(self.store, 10_000),
            deployments=[a_deployment(a_provider(drains=drains))],
        )


def good() -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


async def test_whole_answer_is_kept() -> None:
    """Who asks again gets it."""
    keyed = Keyed(good())
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)

    await keyed.bench.run(client)

    (answer,) = keyed.store.ends
    assert isinstance(answer, StoredResponse)
    assert (answer.status, answer.body, answer.request_id) == (200, OPENAI_ANSWER, "req_1")
    assert client.body == OPENAI_ANSWER


async def test_kept_answer_is_told_again_without_a_run() -> None:
    """No upstream, no event; the headers tell that it is a repetition."""
    known = StoredResponse(200, (JSON[0],), b"{}", "req_first")
    keyed = Keyed(known=known)
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)

    call = await keyed.bench.run(client)

    assert (client.status, client.body, call.status) == (200, b"{}", 200)
    assert client.header(b"idempotent-replayed") == b"true"
    assert (keyed.bench.usage_log.events, keyed.store.ends) == ([], [])


async def test_claim_that_is_refused_is_told() -> None:
    """The run that is under way goes on."""
    keyed = Keyed(known=GatewayError(ErrorKind.CONFLICT, "A run is under way."))
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)

    await keyed.bench.run(client)

    assert (client.status, keyed.store.ends) == (409, [])


async def test_call_that_failed_for_nothing_frees_its_key() -> None:
    """It may be tried again."""
    keyed = Keyed(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"))
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)

    await keyed.bench.run(client)

    assert (client.status, keyed.store.ends) == (502, ["freed"])


async def test_key_is_free_before_the_client_has_the_refusal() -> None:
    """A client that retries at once must not meet its own earlier request."""
    keyed = Keyed(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"))
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)
    sent: list[int | None] = []
    free = keyed.store.free

    async def noting(hold: GrantedClaim) -> None:
        sent.append(client.status)
        await free(hold)

    keyed.store.free = noting  # type: ignore[method-assign]
    await keyed.bench.run(client)

    assert (sent, client.status, keyed.store.ends) == ([None], 502, ["freed"])


async def test_mistake_of_ours_frees_the_key() -> None:
    """Nothing was charged."""
    keyed = Keyed(ZeroDivisionError("ours"))

    with pytest.raises(ZeroDivisionError):
        await keyed.bench.run(FakeClient(CHAT, OPENAI_BODY, headers=KEYED))

    assert keyed.store.ends == ["freed"]


async def test_stream_is_noted_but_not_kept() -> None:
    """Of a stream only that it was charged is known."""
    response = FakeUpstreamResponse()
    keyed = Keyed(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True), headers=KEYED)
    _, task = keyed.bench.begin(client)

    await response.end(openai_event("A"), b"data: [DONE]\n\n")
    await task

    assert keyed.store.ends == [None]


async def test_stream_whose_client_leaves_was_charged() -> None:
    """It must not run twice for what was delivered once."""
    response = FakeUpstreamResponse()
    keyed = Keyed(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True), headers=KEYED)
    _, task = keyed.bench.begin(client)
    await response.push(openai_event("A"))

    client.leave()
    await task

    assert keyed.bench.event.outcome == "cancelled"
    assert keyed.store.ends == [None]


@pytest.mark.parametrize("drains", [False, True])
async def test_large_answer_runs_to_its_end_for_who_asks_again(drains: bool) -> None:
    """The client may come back for it."""
    response = FakeUpstreamResponse(headers=list(JSON))
    keyed = Keyed(response, drains=drains)
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)
    _, task = keyed.bench.begin(client)
    await response.push(OPENAI_ANSWER[:40])

    client.leave()
    await response.end(OPENAI_ANSWER[40:])
    await task

    (answer,) = keyed.store.ends
    assert isinstance(answer, StoredResponse)
    assert answer.body == OPENAI_ANSWER
    assert keyed.bench.event.outcome == "completed"


async def test_small_answer_runs_to_its_end_for_who_asks_again() -> None:
    """The departure does not cancel the request."""
    response = good()

    async def later() -> FakeUpstreamResponse:
        await wait_until(lambda: client._left)
        return response

    keyed = Keyed(later)
    client = FakeClient(CHAT, OPENAI_BODY, headers=KEYED)
    _, task = keyed.bench.begin(client)
    await wait_until(lambda: keyed.bench.transport.requests)

    client.leave()
    await task

    (answer,) = keyed.store.ends
    assert isinstance(answer, StoredResponse)


async def test_header_that_cannot_be_one_is_refused() -> None:
    """Before anything is run."""
    keyed = Keyed()
    client = FakeClient(CHAT, OPENAI_BODY, headers=[(b"idempotency-key", b"a b")])

    await keyed.bench.run(client)

    assert (client.status, keyed.store.ends) == (400, [])


async def test_call_without_the_header_is_an_ordinary_one() -> None:
    """Nothing is claimed."""
    keyed = Keyed(good())
    client = FakeClient(CHAT, OPENAI_BODY)

    await keyed.bench.run(client)

    assert (client.status, keyed.store.ends) == (200, [])


@pytest.mark.parametrize("fails", [True, False])
async def test_key_of_a_stream_with_an_early_head_follows_what_it_cost(fails: bool) -> None:
    """Keep-alives alone are no response: a failure behind them frees the key."""
    gate: asyncio.Future[FakeUpstreamResponse] = asyncio.get_running_loop().create_future()

    async def late() -> FakeUpstreamResponse:
        return await gate

    response = FakeUpstreamResponse()
    keyed = Keyed(late)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True), headers=KEYED)
    call, task = keyed.bench.begin(client)
    await wait_until(lambda: keyed.bench.transport.requests)
    keyed.bench.early_heads.check(monotonic() + 46)
    assert client.status == 200

    if fails:
        gate.set_exception(GatewayError(ErrorKind.UPSTREAM_BROKEN, ""))
    else:
        gate.set_result(response)
        await response.end(openai_event("A"), OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
    await task

    assert keyed.store.ends == (["freed"] if fails else [None])
    assert (call.cost_nanousd > 0) is not fails
