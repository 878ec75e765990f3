"""What one account may have open and in memory before its limits are looked at."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from gateway.core.limits import used_up_error
from gateway.core.model import Endpoint, Prices, Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.client.intake import SMALL_BODY_BYTES, Intake, IntakePlace
from gateway.settings import Server
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_ANSWER,
    OPENAI_BODY,
    PATHS,
    PRINCIPAL,
    RAW_KEY,
    FakeClient,
    FakeUpstreamResponse,
    json_head,
    never,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
FREE = Prices(input=0, output=0, cache_read=0, cache_write=0, reasoning=0)


def an_intake(**limits: int) -> Intake:
    """Bounds of a worker."""
    return Intake(Server(**limits), Bench().metrics)  # type: ignore[arg-type]


def kind_of(place: IntakePlace, size: int) -> ErrorKind | None:
    """What becomes of so many further bytes."""
    try:
        place.add(size)
    except GatewayError as error:
        assert error.retry_after_s == 1
        return error.kind
    return None


class FakeCredit:
    """Accounts without credit, or with."""

    def __init__(self, *, known: bool = False, has_credit: bool = False) -> None:
        self.known = known
        self.has_credit = has_credit
        self.asked: list[str] = []

    def is_known_positive(self, account_id: str) -> bool:
        return self.known

    async def refusal(self, account_id: str) -> GatewayError | None:
        self.asked.append(account_id)
        await asyncio.sleep(0)
        return None if self.has_credit else used_up_error(0, top_up="https://x/app/credits")


def half_sent(path: str = CHAT, **headers: str) -> FakeClient:
    """A client that announces a body of ten bytes and sends none."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return FakeClient(path, headers=[(b"content-length", b"10"), *given])


def good() -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


# Bounds by value.


def test_calls_of_one_account_are_bounded_and_others_are_not_refused() -> None:
    """The refused one takes no place; a call that ends gives its place back."""
    intake = an_intake(max_in_flight_per_account=2)
    with intake.enter("a"):
        with intake.enter("a"):
            with pytest.raises(GatewayError) as caught:
                intake.enter("a")
            with intake.enter("b"):
                assert intake.accounts == 2
        with intake.enter("a"):
            pass

    assert (caught.value.kind, caught.value.retry_after_s) == (ErrorKind.RATE_LIMITED, 1)
    assert intake.accounts == 0


def test_bytes_of_one_account_are_bounded_and_given_back_once() -> None:
    """Bodies count from their arrival until they are released or their call ends."""
    intake = an_intake(max_buffered_bytes_per_account=1_000_000)
    with intake.enter("a") as first, intake.enter("a") as second:
        assert kind_of(first, 600_000) is None
        assert kind_of(second, 400_001) is ErrorKind.RATE_LIMITED
        assert kind_of(second, 400_000) is None
        first.release_body()
        first.release_body()
        assert intake.body_bytes == 400_000
        assert kind_of(second, 600_000) is None

    assert intake.body_bytes == 0


def test_bytes_of_all_are_bounded_but_small_bodies_are_taken() -> None:
    """Who sends much cannot keep others from sending little."""
    intake = an_intake(max_buffered_bytes=1_000_000)
    with intake.enter("a") as large, intake.enter("b") as other, intake.enter("c") as small:
        assert kind_of(large, 990_000) is None
        assert kind_of(other, SMALL_BODY_BYTES + 1) is ErrorKind.OVERLOADED
        assert kind_of(small, SMALL_BODY_BYTES) is None
        assert kind_of(small, 1) is ErrorKind.OVERLOADED


def test_slow_bodies_of_one_account_are_bounded() -> None:
    """Beyond the bound the next one that has not arrived after a second is refused."""
    intake = an_intake(max_sending_per_account=2)
    with ExitStack() as stack:
        places = [stack.enter_context(intake.enter("a")) for _ in range(3)]
        other = stack.enter_context(intake.enter("b"))

        errors = [place.overdue(1.0, 1) for place in (*places, other)]
        again = places[0].overdue(2.0, 1)
        places[0].body_ended()
        late = places[2].overdue(1.0, 1)

    assert [error and error.kind for error in errors] == [None, None, ErrorKind.RATE_LIMITED, None]
    assert (again, late) == (None, None)


@pytest.mark.parametrize(("received", "late"), [(40_959, True), (40_960, False)])
def test_body_must_keep_a_mean_rate_after_ten_seconds(received: int, late: bool) -> None:
    """A body that drips is not waited for; before the tenth second nothing is asked of it."""
    with an_intake(min_body_bytes_per_s=4096).enter("a") as place:
        assert place.overdue(9.0, 0) is None
        error = place.overdue(10.0, received)

    assert (error is not None) is late
    if error is not None:
        assert error.kind is ErrorKind.BODY_TIMEOUT
        assert "4096 bytes per second" in error.message


def test_share_without_credit_is_small() -> None:
    """Few bodies at a time, and as many bytes as they may have; free when a body has arrived."""
    intake = an_intake(max_sending_without_credit=1, max_body_bytes_without_credit=5000)
    with intake.enter("a") as first, intake.enter("a") as second, intake.enter("b") as other:
        first.restrict()
        with pytest.raises(GatewayError) as caught:
            second.restrict()
        other.restrict()
        assert first.max_body_bytes == 5000
        assert kind_of(first, 5001) is ErrorKind.RATE_LIMITED
        first.body_ended()
        second.restrict()

    assert caught.value.kind is ErrorKind.RATE_LIMITED
    assert intake.accounts == 0


# The same in the pipeline.


@pytest.mark.parametrize("endpoint", list(Endpoint))
async def test_half_sent_bodies_of_one_account_leave_room_for_others(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the endpoint, the account's bound is below the worker's."""
    monkeypatch.setattr("gateway.pipeline.client.channel._DRAIN_S", 0.01)
    bench = Bench(limit=5, server=Server(max_in_flight_per_account=3))
    clients = [half_sent(PATHS[endpoint], idempotency_key=f"k{n}") for n in range(4)]
    tasks = [bench.begin(client, endpoint)[1] for client in clients]
    await wait_until(lambda: clients[3].status is not None or tasks[3].done())

    assert [client.status for client in clients] == [None, None, None, 429]
    assert clients[3].header(b"retry-after") == b"1"
    assert bench.metrics.in_flight == 3
    for client in clients[:3]:
        client.leave()
    await asyncio.gather(*tasks)
    bench.assert_recorded_once()


async def test_refusal_for_too_many_calls_does_not_wait_for_the_body() -> None:
    """Its place is free while the rest of a small body is read away."""
    bench = Bench(limit=5, server=Server(max_in_flight_per_account=1))
    first, second = half_sent(), half_sent()
    tasks = [bench.begin(client)[1] for client in (first, second)]
    for _ in range(5):
        await asyncio.sleep(0)

    assert bench.metrics.in_flight == 1
    first.leave()
    second.leave()
    await asyncio.gather(*tasks)


async def test_body_is_counted_until_the_answer_begins() -> None:
    """Then it is forgotten: the bytes are free while the response runs."""
    bench = Bench(never, limit=5)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    assert bench.intake.body_bytes == bench.metrics.body_bytes == len(OPENAI_BODY)
    client.leave()
    await task
    bench.assert_recorded_once()


async def test_worker_full_of_bodies_refuses_in_the_clients_dialect() -> None:
    """503 or 529, with a second's wait."""
    server = Server(max_buffered_bytes=70_000, max_buffered_bytes_per_account=1_000_000)
    for endpoint, status in ((Endpoint.CHAT_COMPLETIONS, 503), (Endpoint.MESSAGES, 529)):
        bench = Bench(server=server)
        client = FakeClient(PATHS[endpoint], b" " * 60_000, b" " * 20_000)

        call = await bench.run(client, endpoint)

        assert (client.status, client.header(b"retry-after")) == (status, b"1")
        assert call.error is not None
        assert call.error.kind is ErrorKind.OVERLOADED
        bench.assert_recorded_once()


@pytest.mark.parametrize(
    ("bound", "status"), [("max_buffered_bytes", 503), ("max_buffered_bytes_per_account", 429)]
)
async def test_body_without_room_is_refused_by_its_length(bound: str, status: int) -> None:
    """Not a byte of it is read, and none is discarded before the response."""
    size = 2 * 1024 * 1024
    bench = Bench(server=msgspec.structs.replace(Server(), **{bound: size - 1}))
    client = FakeClient(CHAT, b" " * size, headers=[(b"content-length", b"%d" % size)])

    await bench.run(client)

    assert (client.status, client.header(b"retry-after")) == (status, b"1")
    assert bool(client._pieces_in) is (status == 503)
    bench.assert_recorded_once()


async def test_account_without_credit_is_refused_before_its_body() -> None:
    """Not a byte is read for the call when nothing that the key may use is free."""
    bench = Bench(credit=FakeCredit())
    # Larger than any body: it is not read away before the response either.
    client = FakeClient("/v1/messages", ANTHROPIC_BODY, headers=[(b"content-length", b"40000000")])

    await bench.run(client, Endpoint.MESSAGES)

    assert client.status == 402
    assert b"Not enough credit: $0.00 is available" in client.body
    assert client.header(b"x-should-retry") == b"false"
    assert client._pieces_in == [ANTHROPIC_BODY]
    bench.assert_recorded_once()


async def test_credit_that_is_known_is_not_asked_for() -> None:
    """An ordinary request pays no round trip."""
    credit = FakeCredit(known=True)
    bench = Bench(good(), credit=credit)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, credit.asked) == (200, [])


async def test_credit_that_is_not_known_is_asked_for() -> None:
    """Once, and with credit nothing is restricted."""
    credit = FakeCredit(has_credit=True)
    bench = Bench(good(), credit=credit, server=Server(max_body_bytes_without_credit=1024))
    client = FakeClient(CHAT, OPENAI_BODY + b" " * 2000)

    await bench.run(client)

    assert (client.status, credit.asked) == (200, ["acct_1"])


async def test_free_model_needs_no_credit() -> None:
    """The call runs, within the small share."""
    bench = Bench(good(), credit=FakeCredit(), prices=FREE)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200


async def test_free_model_that_the_key_may_not_use_is_none() -> None:
    """The key's own list of models counts."""
    principal: Principal = msgspec.structs.replace(PRINCIPAL, models=frozenset({"other"}))
    bench = Bench(credit=FakeCredit(), prices=FREE, principal=principal)
    client = half_sent()

    _, task = bench.begin(client)
    client.leave()
    await task

    assert bench.call_log.lines[0]["error_kind"] == "no_credit"


async def test_large_body_without_credit_is_refused_by_name() -> None:
    """The message says what would help."""
    bench = Bench(credit=FakeCredit(), prices=FREE)
    client = FakeClient(CHAT, headers=[(b"content-length", b"2097153")])

    await bench.run(client)

    assert client.status == 413
    assert b"server.max_body_bytes_without_credit" in client.body


async def test_priced_model_is_refused_although_another_is_free() -> None:
    """Before anything is held or estimated."""
    bench = Bench(credit=FakeCredit())
    bench.proxy._free_models = frozenset({"free"})
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, bench.transport.requests) == (429, [])
    assert b"insufficient_quota" in client.body


# Slow, broken and waiting clients.


async def looked_at(channel: ClientChannel, place: IntakePlace) -> GatewayError:
    """What reading a body ends with."""
    task: asyncio.Task[Any] | None = asyncio.current_task()
    assert task is not None
    with pytest.raises(GatewayError) as caught:
        await channel.read_body(100, 60.0, task, place)
    assert task.cancelling() == 0
    return caught.value


async def test_slow_body_is_looked_at_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look ends the reading; the task goes on as if nothing had happened."""
    monkeypatch.setattr("gateway.pipeline.client.channel._CHECK_S", 0.01)
    with an_intake(max_sending_per_account=1).enter("a") as place:
        monkeypatch.setattr("gateway.pipeline.client.intake.RATE_GRACE_S", 0.02)

        error = await looked_at(half_sent().channel(), place)

    assert error.kind is ErrorKind.BODY_TIMEOUT
    assert "per second" in error.message


@pytest.mark.parametrize(
    ("header", "kind", "gone"),
    [
        ((b"transfer-encoding", b"chunked"), ErrorKind.BAD_REQUEST, False),
        ((b"content-length", b"10"), ErrorKind.CLIENT_GONE, True),
    ],
)
async def test_chunks_without_an_end_are_answered(
    header: tuple[bytes, bytes], kind: ErrorKind, gone: bool
) -> None:
    """The server tells malformed chunks as a disconnect: who is still there gets a 400."""
    client = FakeClient(CHAT, headers=[header])
    bench = Bench()
    call, task = bench.begin(client)
    client.leave()
    await task

    assert call.error is not None
    assert call.error.kind is kind
    assert client.status == (None if gone else 400)
    bench.assert_recorded_once()


async def test_unwanted_bodies_are_dropped_while_they_are_read_away() -> None:
    """Nothing is kept of them, and beyond a number of clients nobody is waited for."""
    channels = [half_sent().channel() for _ in range(300)]
    tasks = [asyncio.ensure_future(channel.drain()) for channel in channels]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert sum(task.done() for task in tasks) == 300 - 256
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ClientChannel._draining == 0


async def test_client_that_waits_for_a_word_is_refused_without_it() -> None:
    """With `expect: 100-continue` no byte of the body is asked for."""
    client = FakeClient(CHAT, b"x", headers=[(b"expect", b"100-continue")], key=RAW_KEY + "x")

    await Bench().run(client)

    assert client.status == 401
    assert client._pieces_in == [b"x"]
