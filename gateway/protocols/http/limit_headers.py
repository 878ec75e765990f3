"""Renders a client's limits as the rate-limit headers of both dialects."""

from __future__ import annotations

from gateway.core.calendar import rfc3339
from gateway.core.limits import Headroom, Room
from gateway.core.model import Wire

Headers = tuple[tuple[bytes, bytes], ...]


def limit_headers(headroom: Headroom, wire: Wire, now_s: int) -> Headers:
    """
    Return the rate-limit headers, for limited rates only.

    OpenAI's: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, reset as a duration `6m0s`.
    Anthropic's: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, reset as RFC 3339,
    rounded up to the second.

    Args:
        headroom: The remaining requests and tokens.
        wire: The client's dialect.
        now_s: Unix seconds.
    """
    requests, tokens = headroom.requests, headroom.tokens
    if requests is None and tokens is None:
        return ()
    render = _anthropic if wire is Wire.ANTHROPIC else _openai
    headers: Headers = ()
    if requests is not None:
        headers = render(b"requests", requests, now_s)
    if tokens is not None:
        headers += render(b"tokens", tokens, now_s)
    return headers


def duration(milliseconds: int) -> str:
    """Return a duration in OpenAI's format: `0s`, `120ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    seconds, rest_ms = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{seconds}.{rest_ms:03}".rstrip("0") if rest_ms else str(seconds)
    if hours:
        return f"{hours}h{minutes}m{tail}s"
    return f"{minutes}m{tail}s" if minutes else f"{tail}s"


def _openai(unit: bytes, room: Room, now_s: int) -> Headers:  # noqa: ARG001 - as `_anthropic`
    return (
        (b"x-ratelimit-limit-%b" % unit, b"%d" % room.limit),
        (b"x-ratelimit-remaining-%b" % unit, b"%d" % room.remaining),
        (b"x-ratelimit-reset-%b" % unit, duration(room.reset_ms).encode()),
    )


def _anthropic(unit: bytes, room: Room, now_s: int) -> Headers:
    reset = rfc3339(now_s - (-room.reset_ms // 1000)).encode()
    return (
        (b"anthropic-ratelimit-%b-limit" % unit, b"%d" % room.limit),
        (b"anthropic-ratelimit-%b-remaining" % unit, b"%d" % room.remaining),
        (b"anthropic-ratelimit-%b-reset" % unit, reset),
    )
