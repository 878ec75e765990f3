"""A small OTLP/HTTP receiver that remembers the spans that it gets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Export(NamedTuple):
    """One export request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    text: str
    spans: list[dict[str, Any]]


class Collector(ThreadingHTTPServer):
    """Responds to export requests with `statuses`, then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.exports: list[Export] = []
        self.body: Iterable[bytes] | None = None
        """Sent in place of a short body, until the client closes the connection."""
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[dict[str, Any]]:
        """Return all spans so far."""
        return [span for export in self.exports for span in export.spans]

    def stop(self) -> None:
        """Listen no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        (resource,) = json.loads(text)["resourceSpans"]
        (scope,) = resource["scopeSpans"]
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.exports.append(Export(self.path, headers, text, scope["spans"]))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        if self.server.body is None:
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            return
        self.end_headers()
        with contextlib.suppress(OSError):
            for piece in self.server.body:
                self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Stay silent."""
