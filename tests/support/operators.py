"""An operator at the pages, with an account that has calls and money."""

from __future__ import annotations

import re
from typing import NamedTuple

import httpx2
import msgspec

from gateway.store.accounts.audit import AuditEntry
from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.console import viewer

_IDEM = re.compile(r'name="idem" value="([^"]+)"')


class Operator(NamedTuple):
    """The pages, and the account."""

    acme: Acme

    async def get(self, path: str, status: int = 200) -> str:
        """Return the text of a page."""
        return await self.acme.get(path, status)

    async def post(self, path: str, **fields: str) -> httpx2.Response:
        """Send a form."""
        return await self.acme.console.client.post(path, data=fields)

    async def idem(self, path: str) -> str:
        """Return the one-time token of a page's form."""
        found = _IDEM.search(await self.get(path))
        assert found is not None
        return found[1]

    async def changes(self, object_id: str) -> list[AuditEntry]:
        """Return the audit log of an object, newest first."""
        records = self.acme.console.services.records
        return list(await records.audit(object_id=object_id, limit=100))


async def operator(database: Database) -> Operator:
    """Return an operator who has just proved who they are."""
    found = await acme(database)
    someone = viewer(found.account_id, is_operator=True)
    found.console.viewers.viewer = msgspec.structs.replace(someone, confirmed_at=2**40)
    return Operator(found)
