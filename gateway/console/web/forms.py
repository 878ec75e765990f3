"""Reads URL-encoded forms of bounded size."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 1000
_KIND = "application/x-www-form-urlencoded"


class FormError(Exception):
    """A form cannot be read. `status` is that of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Form:
    """
    The fields of a form.

    Args:
        fields: Names and values in their order.
    """

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """Return a field's first value without surrounding white space."""
        return self.raw(name, default).strip()

    def raw(self, name: str, default: str = "") -> str:
        """Return a field's first value as sent, for passwords."""
        for key, value in self._fields:
            if key == name:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """Return all values of a field, such as those of checked boxes."""
        return [value for key, value in self._fields if key == name]

    def has(self, name: str) -> bool:
        """Return whether a field was sent."""
        return any(key == name for key, _ in self._fields)


async def read_form(request: Request) -> Form:
    """
    Return the form in a request's body.

    Raises:
        FormError: It is not a form, too large, or not UTF-8.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _KIND:
        raise FormError(415, f"Send the form as {_KIND}.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise FormError(413, f"The form exceeds {MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise FormError(400, "The form cannot be read: send UTF-8, percent-encoded.") from error
    return Form(fields)
