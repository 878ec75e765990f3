"""A scripted server on its own thread, so that blocking tests can use it."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from gateway.demo.server import Handler, ScriptedServer, each_request


class ScriptedThread:
    """
    Serves requests on a free port of the loopback interface, between `start` and `stop`.

    Args:
        handler: Runs on the event loop of the thread.
    """

    def __init__(self, handler: Handler) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-server")
        self._server = ScriptedServer(each_request(handler))
        self.port = 0

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._server.listen(), self._loop)
        self.port = listening.result()
        return self

    def stop(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._server.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
