"""Bodies that are never sent to their end cost others neither a place nor memory."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.abuse.answers import honest
from tests.abuse.service import FREE_MODEL, LONG, AbusedGateway, Customer
from tests.support.bodies import ANTHROPIC, OPENAI, chat
from tests.support.raw_client import Connection
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(60)]

MIB = 1024 * 1024
PLACES = 1200
"""`server.max_in_flight` of this gateway."""
ATTEMPTS = PLACES + 100
AT_ONCE_S = 2.0
LARGE = 12
"""Bodies of 31 MiB."""
HEAD = (
    "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    "content-type: application/json\r\n{size}\r\n"
)


@contextlib.contextmanager
def half_sent(
    gateway: AbusedGateway,
    key: str,
    count: int,
    path: str,
    *,
    declared: int = 1000,
    sent: bytes = b"{",
) -> Iterator[list[socket.socket]]:
    """Hold connections that have sent a head and some of their body."""
    size = f"content-length: {declared}\r\n" if declared else "transfer-encoding: chunked\r\n"
    begun = HEAD.format(path=path, key=key, size=size).encode()
    if not declared:
        sent = b"%x\r\n%b\r\n" % (len(sent), sent)
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            opened = socket.create_connection(("127.0.0.1", gateway.port), timeout=5)
            held.append(opened)
            with contextlib.suppress(OSError):  # refused before all was sent
                opened.sendall(begun + sent)
        yield held
    finally:
        for opened in held:
            opened.close()


def served(gateway: AbusedGateway, customer: Customer, model: str) -> float:
    """Return how long a call of another customer took, which must succeed."""
    began = time.monotonic()
    answer = gateway.post(OPENAI, customer.key, chat(model))
    assert answer.status == 200, answer
    return time.monotonic() - began


@pytest.mark.parametrize("credit", ["0", "5"])
@pytest.mark.parametrize(
    ("path", "declared"),
    [(OPENAI, 1000), (ANTHROPIC, 0), ("/v1/responses", 1000), ("/v1/messages/count_tokens", 0)],
)
def test_half_sent_bodies_take_no_place_of_others(
    narrow: AbusedGateway, credit: str, declared: int, path: str
) -> None:
    """One account, poor or not, cannot hold all places of a worker with bodies."""
    upstream = narrow.agent_upstream
    upstream.plays(honest())
    victim, attacker = narrow.customer("10"), narrow.customer(credit)
    assert served(narrow, victim, FREE_MODEL) < AT_ONCE_S

    def room() -> bool:
        """Return whether there is a place again."""
        return narrow.post(OPENAI, victim.key, chat(FREE_MODEL)).status == 200

    with half_sent(narrow, attacker.key, ATTEMPTS, path, declared=declared):
        # A call has a place from its head on, until the account of its key is known and refused.
        wait_until_sync(room, 10)
        assert served(narrow, victim, FREE_MODEL) < AT_ONCE_S


def test_an_account_may_send_a_few_bodies_at_once(narrow: AbusedGateway) -> None:
    """What bounds attackers does not refuse eight calls that send at the same time."""
    upstream = narrow.agent_upstream
    upstream.plays(honest())
    customer = narrow.customer("10")
    body = chat(FREE_MODEL)
    with half_sent(narrow, customer.key, 8, OPENAI, declared=len(body), sent=body[:5]) as held:
        time.sleep(0.2)
        for opened in held:
            opened.sendall(body[5:])
        for opened in held:
            assert opened.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("credit", ["0", "5"])
def test_large_bodies_that_never_end_do_not_fill_memory(narrow: AbusedGateway, credit: str) -> None:
    """Of a poor key nothing is kept; of another no more than one account may send at once."""
    attacker = narrow.customer(credit)
    count = LARGE * (10 if LONG else 1)
    before = narrow.rss_mib()
    with half_sent(
        narrow, attacker.key, count, OPENAI, declared=32 * MIB - 1, sent=b" " * (31 * MIB)
    ):
        time.sleep(0.5)
        grown = narrow.rss_mib() - before
    print(f"{count} bodies of 31 MiB: {grown:+.0f} MiB of memory")
    assert grown < (64 if credit == "0" else 300)


def test_who_was_refused_before_the_body_is_told_why(narrow: AbusedGateway) -> None:
    """A large body of an account without credit gets the refusal of its dialect, complete."""
    poor = narrow.customer("0")
    model = narrow.take().model("openai")
    body = chat(model, "x" * (8 * MIB))
    # 413 where a free model makes the gateway read a little.
    assert narrow.post(OPENAI, poor.key, body).status in (413, 429)
    assert narrow.post(ANTHROPIC, poor.key, body).status in (402, 413)


def test_places_are_free_again_when_the_senders_leave(narrow: AbusedGateway) -> None:
    """The counters return to zero, however the connections end."""
    upstream = narrow.agent_upstream
    upstream.plays(honest())
    customer = narrow.customer("10")
    for _ in range(2):
        with half_sent(narrow, customer.key, ATTEMPTS, OPENAI):
            time.sleep(0.2)
        wait_until_sync(
            lambda: narrow.post(OPENAI, customer.key, chat(FREE_MODEL)).status == 200, 10
        )


def test_a_poor_key_may_use_a_free_model(narrow: AbusedGateway) -> None:
    """A free model needs no credit."""
    narrow.agent_upstream.plays(honest())
    poor = narrow.customer("0")

    assert narrow.post(OPENAI, poor.key, chat(FREE_MODEL)).status == 200


def test_a_slow_sender_beside_fast_ones_is_waited_for(narrow: AbusedGateway) -> None:
    """A body in ten pieces over a second is still a call."""
    narrow.agent_upstream.plays(honest())
    customer = narrow.customer("10")
    body = chat(FREE_MODEL, "x" * 5000)
    head = HEAD.format(path=OPENAI, key=customer.key, size=f"content-length: {len(body)}\r\n")
    with Connection(narrow.port) as connection:
        connection.send(head.encode())
        for at in range(0, len(body), 600):
            connection.send(body[at : at + 600])
            time.sleep(0.1)
        assert connection.answer().status == 200
