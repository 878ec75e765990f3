"""The command bus against a real Valkey: order, deadlines, breaker, reconnecting, bounds."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import (
    PipelinedRedis,
    RedisLimits,
    RedisState,
    RedisUnavailable,
    ReplyError,
)
from gateway.store.redis.scripts import lua_script
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

# asyncio and uvloop order timers and reads differently.
pytestmark = [pytest.mark.redis, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]

PATIENT = RedisLimits(command_timeout_s=5.0)
QUICK = RedisLimits(
    command_timeout_s=0.05, failures_to_open=3, cooldown_s=0.1, stall_s=0.5, backoff_longest_s=0.05
)

OpenBus = Callable[..., Awaitable[PipelinedRedis]]


@pytest.fixture
async def open_bus() -> AsyncIterator[OpenBus]:
    """Make started buses, closed at the end."""
    buses: list[PipelinedRedis] = []

    async def opened(url: str, limits: RedisLimits = PATIENT, **further: object) -> PipelinedRedis:
        bus = PipelinedRedis(parse_address(url, client_name="test"), limits, **further)  # type: ignore[arg-type]
        buses.append(bus)
        await bus.start()
        return bus

    yield opened
    for bus in buses:
        await bus.aclose()


async def reason_of(command: Awaitable[object]) -> str:
    with pytest.raises(RedisUnavailable) as caught:
        await command
    return caught.value.reason


async def test_command_replies_are_resp_values(valkey_url: str, open_bus: OpenBus) -> None:
    """Status, integer, bulk, null and array replies come as bytes, int, bytes, None and list."""
    bus = await open_bus(valkey_url)

    replies = await asyncio.gather(
        bus.command("SET", "bus:a", b"\x00\xff"),
        bus.command("INCRBY", "bus:n", 7),
        bus.command(b"GET", b"bus:a"),
        bus.command("GET", "bus:none"),
        bus.command("MGET", "bus:a", "bus:none"),
        bus.command("DEL", "bus:n"),
    )

    assert replies == [b"OK", 7, b"\x00\xff", None, [b"\x00\xff", None], 1]


async def test_command_refused_raises_reply_error(valkey_url: str, open_bus: OpenBus) -> None:
    """An error reply fails its own command with code and words, and no other."""
    bus = await open_bus(valkey_url)

    wrong, right = await asyncio.gather(
        bus.command("GET"), bus.command("PING"), return_exceptions=True
    )

    assert isinstance(wrong, ReplyError)
    assert wrong.code == "ERR"
    assert wrong.message == "wrong number of arguments for 'get' command"
    assert right == b"PONG"
    assert bus.state is RedisState.READY


async def test_command_of_wrong_type_raises_and_leaves_the_bus_in_step(
    valkey_url: str, open_bus: OpenBus
) -> None:
    """An argument that cannot be encoded fails only its own command."""
    bus = await open_bus(valkey_url)

    before = bus.command("ECHO", "a")
    with pytest.raises(TypeError):
        bus.command("ECHO", None)  # type: ignore[arg-type]
    after = bus.command("ECHO", "b")

    assert [await before, await after] == [b"a", b"b"]
    assert bus.pending == 0


async def test_commands_10000_at_once_each_get_their_own_reply(
    valkey_url: str, open_bus: OpenBus
) -> None:
    """Ten thousand concurrent commands are one write, and no reply goes astray."""
    bus = await open_bus(valkey_url)

    replies = await asyncio.gather(*[bus.command("ECHO", number) for number in range(10_000)])

    assert replies == [b"%d" % number for number in range(10_000)]
    assert bus.pending == 0


async def test_large_reply_and_small_ones_keep_order(valkey_url: str, open_bus: OpenBus) -> None:
    """A reply of many reads keeps its place between small ones."""
    bus = await open_bus(valkey_url)
    large = b"x" * 3_000_000

    replies = await asyncio.gather(
        bus.command("ECHO", "first"), bus.command("ECHO", large), bus.command("ECHO", "last")
    )

    assert replies == [b"first", large, b"last"]


async def test_commands_beyond_the_bound_fail_at_once(valkey_url: str, open_bus: OpenBus) -> None:
    """The queue is bounded: one command more than allowed is refused unsent."""
    bus = await open_bus(valkey_url, RedisLimits(command_timeout_s=5, max_pending=3))

    taken = [bus.command("PING") for _ in range(3)]

    assert await reason_of(bus.command("PING")) == "full"
    assert await asyncio.gather(*taken) == [b"PONG"] * 3
    assert await bus.command("PING") == b"PONG"
    assert bus.failed_total == 1


async def test_bytes_beyond_the_bound_fail_the_batch(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """What a stopped server does not read may not grow without bound."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=5, max_unsent_bytes=1_000_000))
    valkey.pause()

    first = bus.command("ECHO", b"x" * 3_000_000)
    await asyncio.sleep(0)
    second = bus.command("ECHO", "y")

    assert await reason_of(second) == "full"
    valkey.resume()
    assert len(await first) == 3_000_000  # type: ignore[arg-type]


async def test_deadline_with_paused_server_fails_in_time_and_late_replies_are_dropped(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A late reply never reaches another command: order survives the deadline."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=0.05, failures_to_open=100))
    loop = asyncio.get_running_loop()
    valkey.pause()
    began = loop.time()

    late = [bus.command("ECHO", f"late{number}") for number in range(5)]
    assert [await reason_of(command) for command in late] == ["timeout"] * 5
    assert 0.05 <= loop.time() - began < 1.0
    assert bus.pending == 5

    valkey.resume()
    await wait_until(lambda: bus.pending == 0)
    assert await asyncio.gather(*[bus.command("ECHO", n) for n in range(3)]) == [b"0", b"1", b"2"]


async def test_late_and_live_replies_in_one_read_are_told_apart(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """Commands given before and after a deadline, with replies together, get the right replies."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=0.2, failures_to_open=100))
    valkey.pause()
    assert await reason_of(bus.command("ECHO", "late")) == "timeout"

    live = bus.command("ECHO", "live")
    valkey.resume()

    assert await live == b"live"


async def test_debug_sleep_expires_only_what_waits_too_long(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A server that sleeps replies to later commands again on the same connection."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=0.05, failures_to_open=100))
    client = await bus.command("CLIENT", "ID")

    assert await reason_of(bus.command("DEBUG", "SLEEP", "0.2")) == "timeout"
    await wait_until(lambda: bus.pending == 0)

    assert await bus.command("CLIENT", "ID") == client


async def test_cancelled_command_leaves_the_others_in_step(
    valkey_url: str, open_bus: OpenBus
) -> None:
    """Cancelling a command does not shift the replies of the others."""
    bus = await open_bus(valkey_url)

    first, second, third = (bus.command("ECHO", word) for word in ("a", "b", "c"))
    second.cancel()

    assert [await first, await third] == [b"a", b"c"]
    assert bus.pending == 0


async def test_breaker_opens_after_failures_in_a_row_and_closes_by_its_probe(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A silent server costs a few deadlines, then nothing; its return is noticed unasked."""
    states: list[RedisState] = []
    limits = RedisLimits(command_timeout_s=0.02, failures_to_open=3, cooldown_s=0.05, stall_s=60)
    bus = await open_bus(valkey.url, limits, on_state=states.append)
    valkey.pause()
    for _ in range(3):
        assert await reason_of(bus.command("PING")) == "timeout"

    assert bus.state is RedisState.OPEN
    assert bus.failed_total == 3
    assert await reason_of(bus.command("PING")) == "open"
    assert bus.failed_total >= 4  # probes that fail count, too

    valkey.resume()
    await wait_until(lambda: bus.state is RedisState.READY)
    assert await bus.command("PING") == b"PONG"
    assert states == [RedisState.READY, RedisState.OPEN, RedisState.READY]


async def test_breaker_stays_open_while_the_probe_fails(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """The probe is a PING of the client, never a command of a client."""
    limits = RedisLimits(command_timeout_s=0.01, failures_to_open=1, cooldown_s=0.02, stall_s=60)
    bus = await open_bus(valkey.url, limits)
    valkey.pause()
    assert await reason_of(bus.command("PING")) == "timeout"

    await wait_until(lambda: bus.pending >= 4)

    assert await reason_of(bus.command("PING")) == "open"
    valkey.resume()
    await wait_until(lambda: bus.state is RedisState.READY and bus.pending == 0)


async def test_answer_in_time_resets_the_count(valkey: ValkeyProcess, open_bus: OpenBus) -> None:
    """Only failures in a row open the breaker."""
    limits = RedisLimits(command_timeout_s=0.3, failures_to_open=2, stall_s=60)
    bus = await open_bus(valkey.url, limits)

    for _ in range(3):
        valkey.pause()
        assert await reason_of(bus.command("PING")) == "timeout"
        valkey.resume()
        await wait_until(lambda: bus.pending == 0)
        assert await bus.command("PING") == b"PONG"

    assert bus.state is RedisState.READY


async def test_stalled_connection_is_dropped_for_a_new_one(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A connection that owes a response too long is given up, and the next one works."""
    bus = await open_bus(valkey.url, QUICK)
    valkey.pause()
    assert await reason_of(bus.command("PING")) == "timeout"

    await wait_until(lambda: bus.pending == 0)
    valkey.resume()

    await wait_until(lambda: bus.state is RedisState.READY)
    assert await bus.command("PING") == b"PONG"


async def test_kill_fails_what_is_pending_and_restart_reconnects(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """Kill -9 of the server fails its commands as lost; a new server is found by itself."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=5, failures_to_open=3))
    valkey.pause()
    pending = [bus.command("PING") for _ in range(3)]
    await asyncio.sleep(0)

    valkey.kill()

    assert [await reason_of(command) for command in pending] == ["lost"] * 3
    await wait_until(lambda: bus.state is RedisState.OPEN)
    assert await reason_of(bus.command("PING")) == "open"
    await asyncio.to_thread(valkey.start)
    await wait_until(lambda: bus.state is RedisState.READY)
    assert await bus.command("PING") == b"PONG"


async def test_connection_killed_while_idle_costs_no_command(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A command given between two connections waits for the second."""
    bus, other = await open_bus(valkey.url), await open_bus(valkey.url)
    client = await bus.command("CLIENT", "ID")

    assert isinstance(client, int)
    await other.command("CLIENT", "KILL", "ID", client)
    await wait_until(lambda: bus.state is RedisState.CONNECTING)

    assert await bus.command("PING") == b"PONG"


async def test_command_without_connection_fails_at_its_deadline(open_bus: OpenBus) -> None:
    """No server at all: a command waits for its deadline, not longer, until the breaker opens."""
    bus = await open_bus("unix:///nonexistent.sock", RedisLimits(command_timeout_s=0.05))

    assert bus.state is RedisState.CONNECTING
    assert await reason_of(bus.command("PING")) in {"timeout", "open"}
    await wait_until(lambda: bus.state is RedisState.OPEN)
    assert await reason_of(bus.command("PING")) == "open"
    assert bus.pending == 0


async def test_close_fails_what_is_pending(valkey: ValkeyProcess, open_bus: OpenBus) -> None:
    """Pending and later commands fail after `aclose`, which is idempotent."""
    bus = await open_bus(valkey.url)
    valkey.pause()
    sent = bus.command("PING")
    await asyncio.sleep(0)
    unsent = bus.command("PING")

    await bus.aclose()
    await bus.aclose()

    assert [await reason_of(one) for one in (sent, unsent, bus.command("PING"))] == ["closed"] * 3
    assert bus.pending == 0


async def test_script_is_loaded_at_connect(valkey: ValkeyProcess, open_bus: OpenBus) -> None:
    """Scripts given to the bus are there before the first command."""
    script = lua_script("double", b"return ARGV[1] * 2")
    bus = await open_bus(valkey.url, scripts=[script])

    assert await bus.command("SCRIPT", "EXISTS", script.sha) == [1]
    assert await bus.script(script, [], [21]) == 42


async def test_script_after_flush_is_loaded_again(valkey: ValkeyProcess, open_bus: OpenBus) -> None:
    """NOSCRIPT loads the script and repeats the command."""
    script = lua_script("whole", b"return {KEYS[1], ARGV[1]}")
    bus = await open_bus(valkey.url, scripts=[script])
    await bus.command("SCRIPT", "FLUSH")

    replies = await asyncio.gather(*[bus.script(script, ["k"], [n]) for n in range(10)])

    assert replies == [[b"k", b"%d" % number] for number in range(10)]
    assert await bus.command("SCRIPT", "EXISTS", script.sha) == [1]


async def test_script_error_is_the_callers(valkey_url: str, open_bus: OpenBus) -> None:
    """Any other script error is raised to the client."""
    bus = await open_bus(valkey_url)

    with pytest.raises(ReplyError) as caught:
        await bus.script(lua_script("fails", b"return redis.error_reply('BAD luck')"), [])

    assert (caught.value.code, caught.value.message) == ("BAD", "luck")


async def test_observe_counts_every_command_once(valkey_url: str, open_bus: OpenBus) -> None:
    """The observer is called for each command with a reply, with the round trip in seconds."""
    seen: list[tuple[float, int]] = []
    bus = await open_bus(
        valkey_url, observe=lambda seconds, commands: seen.append((seconds, commands))
    )

    await asyncio.gather(*[bus.command("PING") for _ in range(50)])

    assert sum(commands for _, commands in seen) == 50
    assert all(0 < seconds < 5 for seconds, _ in seen)


async def test_held_up_loop_does_not_expire_answers_that_wait_unread(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """When the worker itself was busy too long, what Redis replied meanwhile still counts."""
    bus = await open_bus(valkey.url, RedisLimits(command_timeout_s=0.05))
    readable, writable = os.pipe()

    def hold_up() -> None:
        asyncio.get_running_loop().remove_reader(readable)
        valkey.resume()
        time.sleep(0.2)

    valkey.pause()
    command = bus.command("ECHO", "there")
    await asyncio.sleep(0)
    asyncio.get_running_loop().add_reader(readable, hold_up)
    os.write(writable, b"x")

    assert await command == b"there"
    os.close(readable)
    os.close(writable)


async def test_login_with_password_and_database(open_bus: OpenBus) -> None:
    """Password, database and client name are given at connect."""
    server = ValkeyProcess("--requirepass", "s3cret", password="s3cret")
    try:
        server.start()
        bus = PipelinedRedis(
            parse_address(f"{server.url}?db=3", password="s3cret", client_name="w1"), PATIENT
        )
        await bus.start()

        listed = await bus.command("CLIENT", "LIST")

        assert isinstance(listed, bytes)
        assert b" name=w1 " in listed
        assert b" db=3 " in listed
        await bus.aclose()
    finally:
        server.close()


async def test_login_refused_keeps_trying_and_logs_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong password opens the breaker; the log names the place and the code only."""
    caplog.set_level(logging.DEBUG)
    server = ValkeyProcess("--requirepass", "s3cret", password="s3cret")
    try:
        server.start()
        limits = RedisLimits(failures_to_open=2, backoff_longest_s=0.02)
        bus = PipelinedRedis(parse_address(server.url, password="wr0ng"), limits)
        await bus.start()
        await wait_until(lambda: bus.state is RedisState.OPEN)
        await bus.aclose()
    finally:
        server.close()

    lines = [str(vars(record)) for record in caplog.records]
    assert any("'reason': 'WRONGPASS'" in line for line in lines)
    assert not any("wr0ng" in line or "s3cret" in line for line in lines)


async def test_readonly_reply_leaves_the_server_while_it_is_a_replica(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A server that became a replica is left until the address leads to a primary."""
    bus = await open_bus(valkey.url)
    await bus.command("REPLICAOF", "127.0.0.1", 1)

    with pytest.raises(ReplyError) as caught:
        await bus.command("SET", "k", "v")

    assert caught.value.code == "READONLY"
    await wait_until(lambda: bus.state is not RedisState.READY)
    further = await open_bus(valkey.url)
    assert further.state is not RedisState.READY
    valkey.kill()
    valkey.start()
    await wait_until(lambda: bus.state is RedisState.READY)
    assert await bus.command("SET", "k", "v") == b"OK"


async def test_command_on_a_connection_that_has_just_ended_waits_for_the_next(
    valkey: ValkeyProcess, open_bus: OpenBus
) -> None:
    """A command on a connection that has just closed is sent on the next one."""
    bus = await open_bus(valkey.url, PATIENT)
    assert bus._link is not None
    bus._link.abort()

    replies = await asyncio.gather(*[bus.command("ECHO", number) for number in range(3)])

    assert replies == [b"0", b"1", b"2"]
    assert bus.pending == 0
