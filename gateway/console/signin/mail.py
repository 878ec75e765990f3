"""Sends links by mail, over SMTP."""

from __future__ import annotations

import asyncio
import logging
import re
import smtplib
import ssl
from collections.abc import Coroutine
from email.message import EmailMessage
from email.utils import formataddr, make_msgid
from typing import Final

from gateway.errors import GatewayError
from gateway.settings import Mail

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
_MOST_AT_ONCE: Final = 2
MOST_WAITING: Final = 50
# One address, without display name, comments or anything that could begin another header.
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
)
_LONGEST: Final = 254


class MailFailedError(Exception):
    """The mail was not accepted. The text is for the log and names no address."""


class Mailer:
    """
    The mail server of the settings.

    Args:
        mail: `console.mail`.
        password: Of `mail.username`.
        name: `brand.name`, the sender's name.
    """

    def __init__(self, mail: Mail, password: str | None, name: str) -> None:
        self._mail = mail
        self._password = password
        self._name = name
        self._running = asyncio.Semaphore(_MOST_AT_ONCE)

    async def send(self, address: str, subject: str, text: str) -> None:
        """Send a text to one address that `is_address` accepts; raises MailFailedError."""
        message = EmailMessage()
        message["From"] = formataddr((self._name, self._mail.sender))
        message["To"] = address
        message["Subject"] = subject
        message["Message-ID"] = make_msgid(domain=self._mail.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        async with self._running:
            try:
                await asyncio.to_thread(self._deliver, message)
            except (OSError, smtplib.SMTPException) as error:
                raise MailFailedError(type(error).__name__) from error

    def _deliver(self, message: EmailMessage) -> None:
        mail = self._mail
        with self._connect() as server:
            if mail.security == "starttls":
                # Raises if the server does not offer it: nothing is sent in clear text.
                server.starttls(context=ssl.create_default_context())
            if mail.username is not None:
                server.login(mail.username, self._password or "")
            server.send_message(message)

    def _connect(self) -> smtplib.SMTP:
        mail = self._mail
        if mail.security == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_S, context=context)
        return smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)


class Outbox:
    """Sends mails after the response, so that its duration does not reveal whether one is sent."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, sending: Coroutine[object, object, None]) -> None:
        """Run `sending` later; with MOST_WAITING in progress it is dropped, and logged."""
        if len(self._tasks) >= MOST_WAITING:
            sending.close()
            logger.warning("mail_dropped", extra={"waiting": len(self._tasks)})
            return
        task = asyncio.create_task(_logged(sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _logged(sending: Coroutine[object, object, None]) -> None:
    try:
        await sending
    except (MailFailedError, GatewayError) as error:
        logger.warning("mail_failed", extra={"reason": str(error)})
    except Exception:
        logger.exception("mail_failed")


def is_address(text: str) -> bool:
    """Return whether a text is one mail address."""
    return len(text) <= _LONGEST and _ADDRESS.fullmatch(text) is not None
