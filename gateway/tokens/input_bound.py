"""Computes an upper bound of a request's input tokens from its bytes."""

from __future__ import annotations

import re
from typing import Final

TEMPLATE_TOKENS: Final = 1024
"""Tokens that a provider's prompt template may add to a request: roles, tool instructions."""

# Types whose tokens are all part of the body: content, tools, settings, JSON schemas.
_TEXT_TYPES: Final = (
    *("text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal"),
    *("message", "reasoning", "thinking", "redacted_thinking"),
    *("function", "function_call", "function_call_output", "tool_use", "tool_result"),
    *("custom", "custom_tool_call", "custom_tool_call_output", "auto", "any", "tool", "none"),
    *("ephemeral", "enabled", "disabled", "adaptive", "json_object", "json_schema"),
    *("object", "string", "number", "integer", "boolean", "array", "null"),
)
_TYPE: Final = b'"type'
# A schema may have a list of types, or a property named "type". A "type" without a colon is a
# value, not a name.
_KNOWN: Final = re.compile(
    rb'[ \t\r\n]*+(?:[^: \t\r\n]|:[ \t\r\n]*+(?:[\[{]|"(?:%b)"))' % "|".join(_TEXT_TYPES).encode()
)
# Members that refer to other content, and that some servers accept without a type, each behind a
# part of it: Python 3.14 finds up to five bytes several times as fast as more.
_REFERENCES: Final = (
    (b"_url", (b'_url"',)),
    (b'udio"', (b'"input_audio"', b'"audio"')),
    (b"_sear", (b'"web_search_options"',)),
)
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")

_SAMPLE_EVERY: Final = 4096
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=_\\-]{64}")


def may_carry_media(body: bytes) -> bool:
    """
    Return whether a request may hold over 4 KB of base64, whose size does not bound its tokens.

    Looks at 64 bytes in every 4096: text in any language has a space or a comma among them.
    """
    match = _BASE64.match
    return any(match(body, at) for at in range(_SAMPLE_EVERY, len(body), _SAMPLE_EVERY))


def may_cache_for_an_hour(body: bytes) -> bool:
    """Return whether a request may write to a one-hour cache, which costs more than others."""
    # Looks for `"ttl": "1h"`, also with an escaped digit or letter.
    return b'"1h"' in body or (b"\\u00" in body and (b"\\u003" in body or b"\\u0068" in body))


def input_token_bound(body: bytes) -> int | None:
    """
    Return an upper bound of the input's tokens; None if only the model's context bounds them.

    No tokenizer produces more tokens than the text has bytes in UTF-8, and JSON encodes no text in
    fewer bytes. Images, files and searches have few bytes and many tokens: a body with anything but
    known text has no bound, nor has one with escaped letters.
    """
    for part, names in _REFERENCES:
        if part in body and any(name in body for name in names):
            return None
    # `find` is several times faster here than a regular expression.
    at = body.find(_TYPE)
    while at >= 0:
        at += len(_TYPE)
        if body.startswith(b'"', at) and _KNOWN.match(body, at + 1) is None:
            return None
        at = body.find(_TYPE, at)
    if b"\\u00" in body and _ESCAPED_LETTER.search(body):
        return None
    return len(body) + TEMPLATE_TOKENS
