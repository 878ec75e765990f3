"""One operation of an API as a value, the source of its document and its page."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from gateway.core.model import Wire
from gateway.errors import ErrorKind


class Parameter(Struct, frozen=True):
    """A part of the path, the query or the headers."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    type: Literal["string", "integer"] = "string"
    allowed: tuple[str, ...] = ()
    """The allowed values; empty if all are."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value."""
        return {"type": self.type, **({"enum": list(self.allowed)} if self.allowed else {})}


class Success(Struct, frozen=True):
    """A response without an error."""

    shape: type
    description: str
    status: int = 200
    event: type | None = None
    """The data of an event if the request has `stream`."""
    csv: bool = False
    """The response may also be CSV."""
    alternative: type | None = None
    """The shape in Anthropic's dialect, if the path has both."""


class Example(Struct, frozen=True):
    """A valid request and its response."""

    response: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    path: dict[str, str] = {}
    query: dict[str, str] = {}


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    id: str
    method: str
    path: str
    title: str
    tag: str
    description: str
    success: Success
    errors: tuple[ErrorKind, ...]
    example: Example
    request: type | None = None
    parameters: tuple[Parameter, ...] = ()
    wire: Wire = Wire.OPENAI
    """The dialect of its errors."""

    @property
    def slug(self) -> str:
        """The last segment of its page's path."""
        return self.id.replace("_", "-")


class Api(Struct, frozen=True):
    """All operations of one audience."""

    title: str
    description: str
    base_url: str
    operations: tuple[Operation, ...]
    schemes: dict[str, dict[str, str]]
    """Security schemes; any one of them is enough."""
    tags: dict[str, str]
    """Groups of operations, in their order, with a description each."""
