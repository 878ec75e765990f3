"""An operation of the operators' API, with the parameters and errors that all have."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.console.openapi.errors import KEY_ERRORS
from gateway.console.openapi.operation import Example, Operation, Parameter, Success
from gateway.errors import ErrorKind

_ERRORS: Final = (
    *KEY_ERRORS[:2],
    ErrorKind.BAD_REQUEST,
    ErrorKind.UNKNOWN_PATH,
    ErrorKind.RATE_LIMITED,
    ErrorKind.STORE_UNAVAILABLE,
    ErrorKind.INTERNAL,
)
_CHANGE_ERRORS: Final = (
    *_ERRORS,
    ErrorKind.CONFLICT,
    ErrorKind.CONTENT_TYPE,
    ErrorKind.BODY_TOO_LARGE,
    ErrorKind.BODY_TIMEOUT,
)
_ACTOR: Final = Parameter(
    "x-actor", "header", "Name for the audit log: at most 64 letters, digits and `. _ @ -`."
)
LIMIT: Final = Parameter("limit", "query", "Items per page, 1 to 1000; default 100.", "integer")
AFTER: Final = Parameter("after", "query", "`next` of the previous page.")
_ID: Final = Parameter("id", "path", "Its id.")
_NAME: Final = Parameter("name", "path", "Its name; slashes are not encoded.")


def admin_operation(
    method: str,
    path: str,
    tag: str,
    text: tuple[str, str],
    success: Success,
    *,
    request: type | None = None,
    parameters: tuple[Parameter, ...] = (),
    body: dict[str, Any] | None = None,
) -> Operation:
    """
    Return an operation, whose id is made of its title.

    Args:
        method: The method.
        path: Below `/admin/`.
        tag: Its group.
        text: Title and description.
        success: The response.
        request: The shape of the body.
        parameters: Without those of the path.
        body: An example.
    """
    named = tuple(each for each in (_ID, _NAME) if f"{{{each.name}}}" in path)
    changes = method != "GET"
    return Operation(
        id=re.sub(r"\W+", "_", re.sub(r"'s\b|\b(an?|the) ", "", text[0].lower())),
        method=method,
        path=f"/admin/{path}",
        title=text[0],
        tag=tag,
        description=text[1],
        request=request,
        success=success,
        errors=_CHANGE_ERRORS if changes else _ERRORS,
        parameters=(*named, *parameters, *((_ACTOR,) if changes else ())),
        example=Example(body=body),
    )
