"""A TCP relay that keeps the HTTP requests that pass: the bytes of both sides stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import Any

import httptools


class Seen:
    """One request as it passed, and the status of its response (0 while there is none)."""

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.status = 0

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


class _Requests:
    """httptools' callbacks for one connection."""

    def __init__(self, seen: list[Seen]) -> None:
        self._seen = seen
        self._current = Seen()
        self.unanswered: list[Seen] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self._current.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._current.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._current.body += body

    def on_message_complete(self) -> None:
        self._current.method = self.parser.get_method().decode()
        self._seen.append(self._current)
        self.unanswered.append(self._current)
        self._current = Seen()


class _Statuses:
    """httptools' callbacks for the responses of one connection."""

    def __init__(self, requests: _Requests) -> None:
        self._requests = requests
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        if self._requests.unanswered:
            self._requests.unanswered.pop(0).status = self.parser.get_status_code()


class Tap:
    """
    Listens on a free port and relays to another, in a thread with a loop of its own.

    Args:
        port: Where the real server listens, on the loopback interface; may come later.
    """

    def __init__(self, port: int = 0) -> None:
        self.target = port
        self.seen: list[Seen] = []
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._welcome, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def base_url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def calls(self, path: str) -> list[Seen]:
        """Return the POST requests to this path, whatever their query."""
        return [s for s in self.seen if s.method == "POST" and s.path.split("?")[0] == path]

    def close(self) -> None:
        """Stop listening, cut what still runs, end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        requests = _Requests(self.seen)
        answers = _Statuses(requests)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                _relay(reader, far_writer, requests.parser),
                _relay(far_reader, writer, answers.parser),
            )
        for side in (writer, far_writer):
            side.close()


async def _relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
) -> None:
    """Pass bytes on until one side ends, then end the other; what is no HTTP passes unread."""
    readable = True
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
            if readable:
                try:
                    parser.feed_data(piece)
                except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                    readable = False
    except OSError:
        pass
    finally:
        writer.close()
