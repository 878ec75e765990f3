"""
Threads: conversations that an Anthropic upstream holds, so that a turn sends only what is new.

Anthropic's SDKs ask for one by default in their tool loops, `"thread": {"type": "create"}`, and
send from then on only new messages. An upstream that does not know the field ignores it and loses
the history, turn by turn and without a word. So a thread goes to Anthropic itself only; elsewhere
it is refused in the words that let the SDK send the same turn again, whole.

Source: anthropic 2.12.0, `lib/threads`: `thread_unsupported_request` ends threading for good.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request


class _Fields(msgspec.Struct, gc=False):
    thread: msgspec.Raw = msgspec.Raw(b"null")


_FIELDS: Final = msgspec.json.Decoder(_Fields)


def asks_for_thread(body: bytes) -> bool:
    """
    Return whether a Messages request wants the upstream to hold the conversation.

    Raises:
        GatewayError: BAD_REQUEST: the body is not JSON.
    """
    if b'"thread"' not in body and b"\\u00" not in body:  # a name may be spelt in escapes
        return False
    return bytes(decode_request(body, _FIELDS).thread) not in (b"null", b"{}")


def thread_refused() -> GatewayError:
    """Return the refusal after which an SDK goes on without a thread."""
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        "thread: not supported by this model",
        param="thread",
        details={"error_code": "thread_unsupported_request"},
    )
