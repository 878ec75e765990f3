"""
Shares the health of deployments over all workers and pods, through Redis.

A change of state is published on a channel and kept in one hash, from which a worker that starts,
or whose subscription was interrupted, learns all current states. Counts are added once per second
to a hash for each deployment and minute. No call waits for any of it: without Redis each worker
relies on its own attempts.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import msgspec

from gateway.core.routing.health import HealthChange, HealthCounts, HealthState
from gateway.core.routing.probes import TIMEOUT_S, Probe
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable, Reply, ReplyError

KEPT_S: Final = 7200
"""How long the counts of a minute are kept."""
PROBE_MS: Final = int(TIMEOUT_S * 1000) + 5_000
"""How long a worker that disappears keeps others from probing; no probe takes longer."""
MAX_MESSAGE_BYTES: Final = 16_384
_RELOAD_S: Final = 0.5
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""

_CHANGE: Final = msgspec.json.Decoder(HealthChange)
_PROBE: Final = msgspec.json.Decoder(Probe)


class RedisHealth:
    """
    Implements `ports.SharedHealth`, and is the listener of its channel.

    Args:
        redis: Commands are sent, and their replies not awaited.
        key_prefix: `redis.key_prefix`.
        learn: As for `listen`; called with the states that Redis kept, too.
    """

    def __init__(
        self,
        redis: RedisBus,
        key_prefix: str,
        learn: Callable[[Iterable[HealthChange]], None] | None = None,
    ) -> None:
        self._redis = redis
        self._prefix = key_prefix
        self._states = states_key(key_prefix)
        self._channel = health_channel(key_prefix)
        self._learn = self._recall = learn or (lambda _: None)
        self.on_probe: Callable[[Probe], None] = lambda _: None
        """Called with each probe that an operator asks for, and with its outcomes."""
        self._loading: asyncio.Task[None] | None = None
        self._unreleased: dict[str, str] = {}
        """Deployment label -> token of a claim that Redis did not delete."""

    def listen(
        self,
        learn: Callable[[Iterable[HealthChange]], None],
        recall: Callable[[Iterable[HealthChange]], None],
    ) -> None:
        """
        Set what receives states from now on.

        Args:
            learn: Called with each change that another worker published.
            recall: Called with the states that Redis kept, at the start and after each outage.
        """
        self._learn, self._recall = learn, recall

    def publish(self, change: HealthChange) -> None:
        """Send a change to all other workers."""
        message = msgspec.json.encode(change)
        if change.state is HealthState.READY:
            self._send("HDEL", self._states, change.label)
        else:
            self._send("HSET", self._states, change.label, message)
        self._send("PUBLISH", self._channel, message)

    def add(self, label: str, minute: int, counts: HealthCounts, state: HealthState) -> None:
        """Add counts to the totals of a deployment in one Unix minute."""
        key = minute_key(self._prefix, label, minute)
        amounts = {"attempts": counts.attempts, "ok": counts.ok}
        amounts |= {f"failed:{name}": count for name, count in counts.failures.items()}
        amounts |= {f"ttft:{step}": count for step, count in counts.ttft.items()}
        for field, amount in amounts.items():
            if amount:
                self._send("HINCRBY", key, field, str(amount))
        if state is not HealthState.READY:
            self._send("HSET", key, "state", state.value)
        self._send("EXPIRE", key, str(KEPT_S))

    async def claim_probe(self, label: str, kept_s: float | None = None) -> str | None:
        """Return a token if this worker may probe a deployment, or if Redis is unavailable."""
        key, token = probe_key(self._prefix, label), uuid.uuid4().hex
        kept_ms = PROBE_MS if kept_s is None else int(kept_s * 1000)
        try:
            set_ = await self._redis.command("SET", key, token, "NX", "PX", str(kept_ms))
        except (RedisUnavailable, ReplyError):
            return token
        return None if set_ is None else token

    def release_probe(self, label: str, token: str) -> None:
        """Delete the claim, after the changes that were published before, if it is this one."""
        key = probe_key(self._prefix, label)
        reply = self._redis.command("EVAL", _RELEASE, "1", key, token)
        reply.add_done_callback(partial(self._released, label, token))

    def _released(self, label: str, token: str, reply: asyncio.Future[Reply]) -> None:
        if not reply.cancelled() and reply.exception() is not None:
            self._unreleased[label] = token

    def _release_again(self) -> None:
        """Delete claims that Redis kept through an outage: they would delay the next probe."""
        unreleased, self._unreleased = self._unreleased, {}
        for label, token in unreleased.items():
            self.release_probe(label, token)

    def subscribed(self, since: float) -> None:  # noqa: ARG002 - of the listener's protocol
        """Load the current states, since changes may have been missed."""
        self._stop_loading()
        self._loading = asyncio.get_running_loop().create_task(self._load())

    def proven(self, since: float) -> None:  # noqa: ARG002 - of the listener's protocol
        """Try again what Redis did not accept; health does not depend on receiving every change."""
        self._release_again()

    def received(self, message: bytes) -> None:
        """Apply a change, or pass on a probe."""
        change = _read(message)
        if change is not None:
            self._learn([change])
        elif (probe := _read_probe(message)) is not None:
            self.on_probe(probe)

    def lost(self) -> None:
        """Stop loading: `subscribed` begins again."""
        self._stop_loading()

    def _stop_loading(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()

    async def _load(self) -> None:
        while True:
            try:
                reply = await self._redis.command("HGETALL", self._states)
            except (RedisUnavailable, ReplyError):
                # After an outage the subscription may be back before the connection for commands.
                await asyncio.sleep(_RELOAD_S)
                continue
            kept = read_states(reply[1::2] if isinstance(reply, list) else ())
            self._recall(kept)
            self._release_again()
            return

    def _send(self, *command: str | bytes) -> None:
        self._redis.command(*command).add_done_callback(_retrieve)


def states_key(key_prefix: str) -> str:
    """Return the key of the hash of states that are not ready."""
    return f"{key_prefix}health:states"


def health_channel(key_prefix: str) -> str:
    """Return the name of the channel of changes."""
    return f"{key_prefix}health:changed"


def minute_key(key_prefix: str, label: str, minute: int) -> str:
    """Return the key of a deployment's counts of a Unix minute."""
    return f"{key_prefix}health:{label}:{minute}"


def probe_key(key_prefix: str, label: str) -> str:
    """Return the key of the token of who probes a deployment."""
    return f"{key_prefix}health:probe:{label}"


def read_states(values: Iterable[object]) -> list[HealthChange]:
    """Return the changes in the values of the hash of states; others are left out."""
    found = (_read(value) for value in values if isinstance(value, bytes))
    return [change for change in found if change is not None]


def _read(message: bytes) -> HealthChange | None:
    if len(message) > MAX_MESSAGE_BYTES:
        return None
    try:
        return _CHANGE.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_probe(message: bytes) -> Probe | None:
    if len(message) > MAX_MESSAGE_BYTES:
        return None
    try:
        return _PROBE.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _retrieve(reply: asyncio.Future[Reply]) -> None:
    """Retrieve a command's outcome, so that asyncio does not report a failure as unhandled."""
    if not reply.cancelled():
        reply.exception()
