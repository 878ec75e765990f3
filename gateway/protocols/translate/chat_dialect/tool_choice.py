"""The members of chat requests that are adapted to an upstream."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway.protocols.codec.absent import ABSENT


class _Allowed(msgspec.Struct, gc=False):
    mode: object = None


class Tools(msgspec.Struct, gc=False):
    tools: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    type: str | None = None
    name: str | None = None
    function: Raw = ABSENT
    allowed_tools: _Allowed | None = None
