"""
One RESP2 connection to Redis.

`open_connection` returns a `RedisConnection` that has completed AUTH, SELECT, CLIENT SETNAME and
PING, to a server that the gateway can use. Then its owner writes packed commands and receives the
hiredis reader whenever bytes arrive. Deadlines, order and reconnection are the owner's
responsibility: see `client` and `pubsub`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, Union, cast

import hiredis
from redis.exceptions import RedisError

from gateway.store.redis.address import Member, RedisAddress
from gateway.store.redis.server_info import (
    Advice,
    ServerInfo,
    other_kind,
    read_hello,
    read_info,
    refusal,
)
from gateway.timeouts import within

Argument: TypeAlias = bytes | str | int
Command: TypeAlias = tuple[Argument, ...]
Reply: TypeAlias = Union[bytes, int, "ReplyError", list["Reply"], None]
"""RESP2 as values. Status replies are bytes; an error is a value only inside a list."""

pack_one: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # its stub
"""Encodes one command as RESP. Raises TypeError for arguments that are not `Argument`s."""

MORE: Final = object()
"""What `Replies.gets` returns when no further reply is complete."""


class ReplyError(Exception):
    """
    An error reply.

    Args:
        text: The error line: a code (`NOSCRIPT`, `WRONGTYPE`, `OOM`, `ERR`), a space, a message.
            The message may repeat arguments of the command.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, _, self.message = text.partition(" ")


class RedisRefusedError(ConnectionError):
    """
    The server is one that the gateway cannot use.

    Args:
        advice: Why, and what to do.
    """

    def __init__(self, advice: Advice) -> None:
        super().__init__(f"redis.url: {advice}")
        self.advice = advice


class OtherKindError(RedisRefusedError):
    """The server is in cluster mode, or not, against its address."""


class Replies(Protocol):
    """The reader of a connection, for its owner to drain."""

    def gets(self) -> object:
        """Return the next reply (`Reply`, errors as `ReplyError`), or `MORE`."""


Taker: TypeAlias = Callable[[Replies], None]
"""Called after each network read; must call `gets` until it returns `MORE`."""


class RedisConnection(asyncio.Protocol):
    """One connection. `closed` is done when either side has closed it; it never fails."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=MORE)
        self.server: ServerInfo | None = None
        """Known after `open_connection`, unless the user of ACL may not use INFO."""
        self._take: Taker = _refuse
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the reader and let the owner drain it."""
        self._reader.feed(data)
        try:
            self._take(self._reader)
        except hiredis.ProtocolError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Resolve `closed`."""
        if not self.closed.done():
            self.closed.set_result(None)

    def hand_over(self, take: Taker) -> None:
        """Call `take` for all further replies."""
        self._take = take

    def write(self, packed: bytes) -> bool:
        """Send packed commands; return False, with nothing sent, if the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        try:
            self._transport.write(packed)
        except RuntimeError:
            # uvloop closes a handle at a write error, before it calls `connection_lost`.
            return False
        return True

    def unsent_bytes(self) -> int:
        """Return the size of the write buffer."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection at once. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """
        Send commands and return their replies; only before `hand_over`.

        Raises:
            ReplyError: The first error reply.
            ConnectionError: The connection was closed first.
        """
        received: asyncio.Queue[object] = asyncio.Queue()
        self.hand_over(lambda replies: _drain(replies, received))
        self.closed.add_done_callback(lambda _: received.put_nowait(MORE))
        self.write(pack(commands))
        replies: list[Reply] = []
        for _ in commands:
            reply = await received.get()
            if reply is MORE:
                raise ConnectionResetError("redis closed the connection")
            if isinstance(reply, ReplyError):
                raise reply
            replies.append(cast("Reply", reply))
        return replies


def pack(commands: Sequence[Command]) -> bytes:
    """Return the commands as RESP."""
    return b"".join([pack_one(command) for command in commands])


async def open_connection(target: RedisAddress, further: Sequence[Command] = ()) -> RedisConnection:
    """
    Return a new authenticated connection on which PING and the `further` commands have succeeded.

    Raises:
        OSError: No connection within `connect_timeout_s`, or it was closed, or the Sentinels know
            no primary.
        OtherKindError: The server is in cluster mode, or not, against its address.
        RedisRefusedError: The server cannot be used, see `server_info`.
        ReplyError: Wrong credential, the server is still loading, or a further command failed.
    """
    if target.seeds and target.member is None:
        return await _open_any(target, further)
    link = RedisConnection()
    try:
        await within(target.connect_timeout_s, _establish(link, target, further))
    except BaseException:
        link.abort()
        raise
    link.hand_over(_refuse)
    return link


async def _establish(
    link: RedisConnection, target: RedisAddress, further: Sequence[Command]
) -> None:
    loop = asyncio.get_running_loop()
    host, port = target.host, target.port
    if target.sentinels is not None:
        host, port = await _find_primary(target)
    if target.path is not None:
        await loop.create_unix_connection(lambda: link, target.path)
    else:
        transport, _ = await loop.create_connection(lambda: link, host, port, ssl=target.tls)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    await link.call(_login(target))
    await _identify(link, target)
    selected: list[Command] = [("SELECT", target.db)] if target.db else []
    if selected or further:
        await link.call([*selected, *further])


async def _open_any(target: RedisAddress, further: Sequence[Command]) -> RedisConnection:
    """Connect to the first server of a cluster that responds."""
    failure: OSError = ConnectionError("no server is configured")
    for host, port in target.seeds:
        try:
            return await open_connection(target.seed(host, port), further)
        except RedisRefusedError:
            raise
        except OSError as error:
            failure = error
    raise failure


async def _find_primary(target: RedisAddress) -> tuple[str, int]:
    assert target.sentinels is not None
    # In a task of its own, because redis-py may swallow a cancellation, and this must end at once.
    search = asyncio.create_task(target.sentinels.discover_master(target.sentinels.service))
    search.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        await asyncio.wait([search])
    finally:
        search.cancel()
    try:
        return search.result()
    except RedisError as error:
        raise ConnectionError(f"no primary from {target.label}: {type(error).__name__}") from error


async def _identify(link: RedisConnection, target: RedisAddress) -> None:
    """Read what the server is; refuse one that the gateway cannot use."""
    info = await _server_info(link)
    if info is None:
        return
    if target.member is Member.MASTER and info.role != "master":
        raise ConnectionError("a failover is in progress: the server is a replica")
    in_cluster = bool(target.seeds)
    if (kind := other_kind(info, in_cluster=in_cluster)) is not None:
        raise OtherKindError(kind)
    reason = refusal(info, in_cluster=in_cluster)
    if reason is None:
        return
    if target.sentinels is not None and info.role != "master":
        raise ConnectionError("a failover is in progress: the Sentinels name a replica")
    raise RedisRefusedError(reason)


async def _server_info(link: RedisConnection) -> ServerInfo | None:
    try:
        (reply,) = await link.call([("INFO",)])
    except ReplyError as error:
        if error.code != "NOPERM":
            raise
    else:
        text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
        link.server = read_info(text)
        return link.server
    # INFO is @dangerous, HELLO is not: without the former, the latter still tells a cluster.
    try:
        (reply,) = await link.call([("HELLO",)])
    except ReplyError:
        return None
    return read_hello(reply)


def _login(target: RedisAddress) -> list[Command]:
    """Return the first commands. AUTH, unlike HELLO, exists in every version."""
    commands: list[Command] = []
    if target.password is not None:
        user = () if target.username is None else (target.username,)
        commands.append(("AUTH", *user, target.password))
    return [*commands, ("CLIENT", "SETNAME", target.client_name), ("PING",)]


def _drain(replies: Replies, received: asyncio.Queue[object]) -> None:
    while (reply := replies.gets()) is not MORE:
        received.put_nowait(reply)


def _refuse(replies: Replies) -> None:
    # A reply without a command: replies can no longer be matched by order.
    if replies.gets() is not MORE:
        raise hiredis.ProtocolError("a reply to no command")
