"""
Threads: conversations stored by an Anthropic upstream, so that a request sends only new messages.

Anthropic's SDKs request one by default in their tool loops, `"thread": {"type": "create"}`, and
then send only new messages. An upstream that does not know the field ignores it and silently loses
the history. Threads are therefore relayed to Anthropic only; elsewhere they are rejected with the
error on which the SDK resends the complete request.

Source: anthropic 2.12.0, `lib/threads`: `thread_unsupported_request` ends threading for good.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import msgspec

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request


class _Fields(msgspec.Struct, gc=False):
    thread: msgspec.Raw = msgspec.Raw(b"null")


_FIELDS: Final = msgspec.json.Decoder(_Fields)


def asks_for_thread(body: bytes, names: Container[str] | None = None) -> bool:
    """
    Return whether a Messages request asks the upstream to store the conversation.

    Args:
        body: The request.
        names: Of its members, if they are known.

    Raises:
        GatewayError: BAD_REQUEST: the body is not JSON.
    """
    if names is not None and "thread" not in names:
        return False
    # Five bytes are found several times as fast as more; names may contain escapes.
    named = b'"thre' in body and b'"thread"' in body
    if not named and b"\\u00" not in body:
        return False
    return bytes(decode_request(body, _FIELDS).thread) not in (b"null", b"{}")


def thread_refused() -> GatewayError:
    """Return the error after which an SDK continues without threads."""
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        "thread: not supported by this model",
        param="thread",
        details={"error_code": "thread_unsupported_request"},
    )
