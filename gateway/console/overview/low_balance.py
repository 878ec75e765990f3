"""Mails the owners of an account once when its balance falls below the threshold they chose."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from gateway.console.signin.mail import Mailer, MailFailedError, is_address
from gateway.console.signin.throttle import Throttle
from gateway.console.web.messages import Messages, choose_language
from gateway.console.web.words import money
from gateway.errors import GatewayError
from gateway.settings import Brand
from gateway.store.accounts.low_balance import LowBalance, LowBalances
from gateway.store.sql.database import Database

logger = logging.getLogger(__name__)

EVERY_S: Final = 60.0


class LowBalanceMails:
    """
    Sends the mails of all accounts; several consoles share the work.

    Args:
        database: SQL.
        mailer: The mail server.
        throttle: Bounds the mails of an account.
        brand: The service's name and address.
        languages: All languages, by tag.
    """

    def __init__(
        self,
        database: Database,
        mailer: Mailer,
        throttle: Throttle,
        brand: Brand,
        languages: Mapping[str, Messages],
    ) -> None:
        self._balances = LowBalances(database)
        self._mailer = mailer
        self._throttle = throttle
        self._brand = brand
        self._languages = dict(languages)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due every EVERY_S seconds until `stop` is set."""
        while not stop.is_set():
            try:
                await self.send_due()
            except GatewayError as error:  # the next round tries again
                logger.warning("low_balance_check_failed", extra={"reason": error.kind.name})
            except Exception:  # the root of a task
                logger.exception("low_balance_check_failed")
            try:
                async with asyncio.timeout(EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def send_due(self) -> int:
        """Send the mails that are due; return how many were sent."""
        sent = 0
        for account in await self._balances.claim():
            try:
                sent += await self._send(account)
            except Exception:  # the other accounts are claimed, too
                logger.exception(
                    "low_balance_mail_failed", extra={"account_id": account.account_id}
                )
                await self._balances.release(account.account_id)
        return sent

    async def _send(self, account: LowBalance) -> int:
        """Send to each owner; if the mail server takes none, the account stays due."""
        sent = failed = 0
        for owner in account.owners:
            if not is_address(owner.login):
                continue
            if not await self._throttle.allows_mail(account.account_id):
                break
            subject, text = self._mail(account, owner.language)
            try:
                await self._mailer.send(owner.login, subject, text)
                sent += 1
            except MailFailedError as error:
                failed += 1
                logger.warning("mail_failed", extra={"reason": str(error)})
        if failed and not sent:
            await self._balances.release(account.account_id)
        return sent

    def _mail(self, account: LowBalance, language: str | None) -> tuple[str, str]:
        """Return subject and text in the language of who gets it."""
        text = choose_language(language, "", self._languages).gettext
        values = {
            "account": account.name,
            "brand": self._brand.name,
            "balance": money(account.balance_nanousd),
            "threshold": money(account.threshold_nanousd),
        }
        subject = text("Low balance of %(account)s on %(brand)s") % values
        body = text(
            "The balance of the account %(account)s on %(brand)s is %(balance)s, below the"
            " %(threshold)s that its owners chose. Calls are refused once it is used up. Top it up"
            " or change this notice:"
        )
        link = f"{self._brand.public_url.rstrip('/')}/app/billing"
        return " ".join(subject.split()), f"{body % values}\n\n{link}\n"
