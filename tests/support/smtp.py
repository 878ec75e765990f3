"""A mail server on a loopback port, which keeps what it accepts."""

from __future__ import annotations

import base64
import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage

from gateway.settings import Mail

USERNAME, PASSWORD = "pages", "a secret of the mailbox"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    owner: MailServer


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self._say("220 test")
        for line in self.rfile:
            command = line.decode().strip()
            verb = command.partition(" ")[0].upper()
            self._say(self._reply(verb, command))
            if verb == "QUIT":
                return

    def _reply(self, verb: str, command: str) -> str:
        owner = self.server.owner
        if verb == "EHLO":
            return "250-test\r\n250 AUTH PLAIN"
        if verb == "AUTH":
            owner.authenticate(command.rpartition(" ")[2])
            return "235 ok"
        if verb == "RCPT":
            if not owner.accepts:
                return "550 no such mailbox"
            owner.recipients.append(command.partition(":")[2])
        if verb == "DATA":
            self._say("354 go on")
            owner.keep(self._body())
        return "221 bye" if verb == "QUIT" else "250 ok"

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def _body(self) -> bytes:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        return b"".join(lines)


class MailServer:
    """
    A server without TLS. Use as a context manager.

    Args:
        accepts: False: it refuses every recipient.
    """

    def __init__(self, *, accepts: bool = True) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.was_authenticated = False
        self.accepts = accepts
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.owner = self
        self.port: int = self._server.server_address[1]

    def settings(self) -> Mail:
        """Return the settings of a console that sends its mails here."""
        return Mail(
            host="127.0.0.1",
            port=self.port,
            security="none",
            username=USERNAME,
            password_env="MAIL",
            sender="pages@acme.test",
        )

    def __enter__(self) -> MailServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def authenticate(self, credentials: str) -> None:
        expected = f"\0{USERNAME}\0{PASSWORD}".encode()
        self.was_authenticated = base64.b64decode(credentials) == expected

    def keep(self, content: bytes) -> None:
        self.messages.append(message_from_bytes(content, policy=policy.default))
