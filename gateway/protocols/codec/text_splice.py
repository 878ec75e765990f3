"""
Translates plain text events by copying their text between constant bytes.

Theory. The text events of a stream differ in one JSON string, and so do their translations. A text
that needs no decoding can be moved from one to the other as it is, which takes a tenth of the time
of reading an event and writing another.

Nothing is assumed about either format: the bytes around the text are taken from an event that was
translated in the usual way, and used only once they reproduce the next event's translation
exactly. An event without these bytes, or with another translation, ends their use until one is
reproduced again.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_ENCODE: Final = msgspec.json.Encoder().encode
# Characters and escapes that a JSON string keeps however it is encoded. `<` may begin a tag, and an
# escape `\u` may be half a surrogate pair.
_PLAIN: Final = re.compile(rb'(?:[^"\\<\x00-\x1f]|\\["\\bfnrt])+').fullmatch
_LEARN_BYTES: Final = 4096
"""Largest event to learn from: the bytes around its text are kept while the stream lasts."""
_ATTEMPTS: Final = 8
"""Consecutive events without a reproduced translation after which a stream is not spliced."""


class TextSplice:
    """
    The bytes around the text of one stream's text events, before and after their translation.

    Attributes:
        active: Whether `splice` may be called.
        last: The last text that was spliced, as in JSON; empty: none since `observe`.
    """

    __slots__ = (
        "_after", "_attempts", "_before", "_between", "_out_after", "_out_before", "_out_between",
        "active", "last",
    )  # fmt: skip

    def __init__(self) -> None:
        self.active = False
        self.last = b""
        self._attempts = _ATTEMPTS
        self._before = self._after = self._between = b""
        self._out_before = self._out_after = self._out_between = b""

    def splice(self, chunk: bytes) -> bytes | None:
        """Return the translation of whole text events; None: translate them in the usual way."""
        before, after = self._before, self._after
        if chunk.startswith(before) and chunk.endswith(after):
            # Where they overlap it is empty: compiled code cannot slice bytes to before the start.
            text = chunk[len(before) : max(len(chunk) - len(after), len(before))]
            if _PLAIN(text) is not None:
                if text.isascii() or _is_utf8(text):
                    self.last = text
                    return self._out_before + text + self._out_after
            elif self._between in text:
                return self._splice_several(text.split(self._between))
        return None

    def _splice_several(self, texts: list[bytes]) -> bytes | None:
        for text in texts:
            if _PLAIN(text) is None or not _is_utf8(text):
                return None
        self.last = texts[-1]
        return self._out_before + self._out_between.join(texts) + self._out_after

    def observe(self, chunk: bytes, text: str, out: bytes) -> None:
        """
        Learn from a translation made in the usual way.

        Args:
            chunk: The upstream's bytes.
            text: The text of the event, if they are one event with nothing else; otherwise empty.
            out: The client's bytes.
        """
        self.active = False
        self.last = b""
        if not text or not self._attempts:
            return
        try:
            encoded = _ENCODE(text)[1:-1]
        except UnicodeEncodeError:
            return  # half a surrogate pair
        expected = (
            self._before + encoded + self._after,
            self._out_before + encoded + self._out_after,
        )
        if self._after and (chunk, out) == expected:
            self.active = True
            self._attempts = _ATTEMPTS
        else:
            self._learn(chunk, encoded, out)

    def _learn(self, chunk: bytes, encoded: bytes, out: bytes) -> None:
        self._attempts -= 1
        if len(chunk) > _LEARN_BYTES or len(out) > _LEARN_BYTES:
            return
        if chunk.find(b"\n\n") != len(chunk) - 2 or b"\r" in chunk:
            return  # more than one event, or line ends that may be split across chunks
        quoted = b'"%b"' % encoded
        if chunk.count(quoted) != 1 or out.count(quoted) != 1:
            return
        start, end = chunk.find(quoted) + 1, chunk.find(quoted) + 1 + len(encoded)
        self._before, self._after = chunk[:start], chunk[end:]
        self._between = self._after + self._before
        start, end = out.find(quoted) + 1, out.find(quoted) + 1 + len(encoded)
        self._out_before, self._out_after = out[:start], out[end:]
        self._out_between = self._out_after + self._out_before


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
