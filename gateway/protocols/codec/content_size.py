"""
The bytes of a response that are content, for estimates if no usage is reported.

| member | counts |
| --- | --- |
| text, refusals, tool names and arguments, any string that is not named below | its bytes |
| reasoning, of which many upstreams send two copies | the larger copy |
| encrypted reasoning (`signature`, `data`) | three quarters: it is base64 |
| `images`, `audio` | one in 128: base64 of media, of which a token covers about 500 bytes |
| ids, roles, types, citations, log probabilities, results of the server's own tools | nothing |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.core.model import Wire

_FREE: Final = frozenset(
    {
        "role",
        "type",
        "id",
        "index",
        "annotations",
        "citations",
        "logprobs",
        "provider_specific_fields",
    }
)
_ANTHROPIC_FREE: Final = _FREE | {
    "tool_use_id",
    "content",
    "cache_control",
    "caller",
    "stop_reason",
    "stop_sequence",
}
_REASONING: Final = frozenset({"reasoning", "reasoning_content", "reasoning_details", "thinking"})
_ENCRYPTED: Final = frozenset({"signature", "data"})
_MEDIA: Final = frozenset({"images", "audio"})
_MEDIA_SHARE: Final = 128


def content_bytes(wire: Wire, sizes: Mapping[str, int]) -> int:
    """
    Return the bytes of content in one message, delta or block.

    Args:
        wire: The upstream's dialect.
        sizes: Each member's name and the bytes of its value; members without a value are omitted.
    """
    free = _FREE if wire is Wire.OPENAI else _ANTHROPIC_FREE
    total = reasoning = 0
    for name, size in sizes.items():
        if name in free or size <= 2:
            continue
        if name in _REASONING:
            reasoning = max(reasoning, size)
        elif name in _ENCRYPTED:
            reasoning = max(reasoning, size * 3 // 4)
        elif name in _MEDIA:
            total += -(-size // _MEDIA_SHARE)
        else:
            total += size
    return total + reasoning
