"""
Headers of every page, and the check that a request comes from this site.

A request that changes something is accepted only from a page of this origin: browsers say so in
`sec-fetch-site`, older ones in `origin`. The cookie's SameSite attribute is the second defence.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD"})
_OFF = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen",
    "geolocation", "gyroscope", "magnetometer", "microphone", "midi", "payment",
    "picture-in-picture", "screen-wake-lock", "usb", "xr-spatial-tracking",
)  # fmt: skip
_PERMISSIONS = ", ".join(
    [
        *(f"{name}=()" for name in _OFF),
        "clipboard-write=(self)",
        "publickey-credentials-create=(self)",
        "publickey-credentials-get=(self)",
    ]
)
_HSTS = "max-age=31536000"


def policy(form_actions: tuple[str, ...] = ()) -> str:
    """Return the content security policy; `form_actions` are further origins of forms."""
    actions = " ".join(("'self'", *form_actions))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        f"connect-src 'self'; form-action {actions}; base-uri 'none'; frame-ancestors 'none'"
    )


def security_headers(public_url: str, form_actions: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the headers of every response."""
    headers = {
        "content-security-policy": policy(form_actions),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": _PERMISSIONS,
    }
    if public_url.startswith("https://"):
        headers["strict-transport-security"] = _HSTS
    return headers


def origin_of(url: str) -> str:
    """Return the scheme and host of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def session_cookie(public_url: str) -> str:
    """Return the name of the cookie that holds the session's token."""
    return "__Host-session" if public_url.startswith("https://") else "session"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether a page of this origin sent a request, by its headers in lower case."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    _, separator, host = origin.partition("://")
    return bool(separator) and host == headers.get("host")
