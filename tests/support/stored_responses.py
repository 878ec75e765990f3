"""A store of responses in memory, and clients' sealers, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.core.stored_responses import Part, ResponseSealer, SealedParts, encode_input
from gateway.errors import ErrorKind, GatewayError
from tests.support.idempotency import OTHER_RAW_KEY, PRINCIPAL, RAW_KEY

SEALER = ResponseSealer(RAW_KEY, PRINCIPAL)
OTHER_SEALER = ResponseSealer(OTHER_RAW_KEY, PRINCIPAL)
NONCE = bytes(12)


class MemoryResponses:
    """`ports.ResponseStore` in memory; `available` and `has_room` decide what becomes of calls."""

    def __init__(self) -> None:
        self.kept: dict[bytes, SealedParts] = {}
        self.fetches: list[list[tuple[bytes, frozenset[Part]]]] = []
        self.renewed: list[bool] = []
        self.available = True
        self.has_room = True
        self.too_large = False

    async def keep(self, account_id: str, name: bytes, parts: SealedParts) -> bool:
        assert account_id == PRINCIPAL.account_id
        if self.available and self.has_room:
            self.kept[name] = parts
        return name in self.kept

    async def fetch(
        self, account_id: str, wanted: Sequence[tuple[bytes, frozenset[Part]]], *, renew: bool
    ) -> list[SealedParts] | None:
        assert account_id == PRINCIPAL.account_id
        self._check()
        self.fetches.append(list(wanted))
        self.renewed.append(renew)
        if self.too_large:
            return None
        return [
            {part: sealed for part, sealed in self.kept.get(name, {}).items() if part in parts}
            for name, parts in wanted
        ]

    async def forget(self, account_id: str, name: bytes) -> bool:
        assert account_id == PRINCIPAL.account_id
        self._check()
        return self.kept.pop(name, None) is not None

    def add(self, token: str, *ancestors: str, sealer: ResponseSealer = SEALER) -> None:
        """Keep a response with one input item `in-<token>` and one output item `out-<token>`."""
        items = [{"id": f"msg_{token}_in0", "text": f"in-{token}"}]
        response = {"id": f"resp_{token}", "output": [output_item(token)]}
        name = sealer.name(token)
        plain = {
            Part.INPUT: encode_input(json.dumps(items).encode(), ancestors),
            Part.RESPONSE: json.dumps(response).encode(),
        }
        self.kept[name] = {
            part: sealer.seal(name, part, value, NONCE) for part, value in plain.items()
        }

    def _check(self) -> None:
        if not self.available:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "away", retry_after_s=1)


def output_item(token: str) -> dict[str, Any]:
    """Return the output item of a response that `add` keeps."""
    return {"id": f"msg_{token}_0", "text": f"out-{token}"}


def texts_in(parts: Sequence[bytes]) -> list[str]:
    """Return the texts of items that `add` keeps."""
    return [item["text"] for part in parts for item in json.loads(part)]
