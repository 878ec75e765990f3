"""
Token counters with real vocabularies.

The tokenizer holds the GIL while it works, so a thread would not unblock the event loop: 100 KB of
new text take 1 to 8 ms, 2.4 MB 190 ms. Long texts are therefore counted in slices of 4 KB, cut
before white space, and the counter yields to the loop after every `BUDGET_S`. Tokens rarely span a
cut: on prose and code the sum is 0.01 % above the exact count.

Agents send their whole history in each request: counts of slices are cached by a 128-bit digest,
never by their text. A text is always cut at the same places, so its count is deterministic, and
most slices of a text that only grew are cached.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from gateway.tokens.calibration import Calibration
from gateway.tokens.count import UNCALIBRATED, Bytes4, Measure
from gateway.tokens.vocabularies import BASE, VOCABULARIES, Vocabulary, vocabulary_of

Encode = Callable[[str], Sequence[int]]

SLICE_CHARS: Final = 4096
BUDGET_S: Final = 0.002
"""How long counting may block the event loop at a time."""
CACHE_ENTRIES: Final = 65_536

_SHORT_CHARS: Final = 64
"""Shorter texts are faster to count than to look up."""


class TextCounter(Protocol):
    """Counts the tokens of texts, at once or cooperatively on the event loop."""

    def count(self, text: str) -> int:
        """Return the tokens of `text`."""

    async def count_all(self, texts: Sequence[str]) -> int:
        """Return the tokens of all texts without blocking the event loop for long."""


class CountCache:
    """
    An LRU cache of token counts by digest.

    Args:
        entries: Most entries; about 200 bytes each.
    """

    __slots__ = ("_counts", "_entries")

    def __init__(self, entries: int = CACHE_ENTRIES) -> None:
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._entries = entries

    def __len__(self) -> int:
        return len(self._counts)

    def get(self, digest: bytes) -> int | None:
        """Return a cached count, or None."""
        count = self._counts.get(digest)
        if count is not None:
            self._counts.move_to_end(digest)
        return count

    def put(self, digest: bytes, count: int) -> None:
        """Cache a count."""
        self._counts[digest] = count
        if len(self._counts) > self._entries:
            self._counts.popitem(last=False)


class VocabularyCounter:
    """
    Counts with a vocabulary, optionally scaled to another one.

    Args:
        encode: Text to token ids.
        ratio: The vocabulary to scale to; None for no scaling.
        salt: Name of the encoding vocabulary, at most 16 bytes, since the cache is shared.
        cache: Holds counts before scaling.
    """

    __slots__ = ("_cache", "_encode", "_ratio", "_salt")

    def __init__(
        self, encode: Encode, *, ratio: Vocabulary | None, salt: bytes, cache: CountCache
    ) -> None:
        self._encode = encode
        self._ratio = ratio
        self._salt = salt
        self._cache = cache

    def count(self, text: str) -> int:
        """Return the tokens of `text`, rounded to the nearest."""
        return self._scaled(text, sum(map(self._count_slice, slices(text))))

    async def count_all(self, texts: Sequence[str]) -> int:
        """Return the tokens of all texts, blocking the loop for about 2 ms at a time."""
        total = 0
        until = time.monotonic() + BUDGET_S
        for text in texts:
            raw = 0
            for piece in slices(text):
                raw += self._count_slice(piece)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + BUDGET_S
            total += self._scaled(text, raw)
        return total

    def _count_slice(self, piece: str) -> int:
        if len(piece) <= _SHORT_CHARS:
            return len(self._encode(piece))
        digest = hashlib.blake2b(piece.encode(), digest_size=16, person=self._salt).digest()
        count = self._cache.get(digest)
        if count is None:
            count = len(self._encode(piece))
            self._cache.put(digest, count)
        return count

    def _scaled(self, text: str, raw: int) -> int:
        if self._ratio is None:
            return raw
        permille = self._ratio.cjk_permille if is_cjk(text) else self._ratio.permille
        return (raw * permille + 500) // 1000


class BytesCounter(Bytes4):
    """The fallback if no vocabulary could be loaded: one token per four bytes."""

    __slots__ = ()

    async def count_all(self, texts: Sequence[str]) -> int:
        """Return the sum; 100 KB take 20 us."""
        return sum(map(self.count, texts))


class Counters:
    """
    The token counters of one worker.

    Args:
        encoders: Vocabulary name -> text to token ids; without o200k all counts are bytes / 4.
    """

    __slots__ = ("_cache", "_counters", "_encoders")

    def __init__(self, encoders: dict[str, Encode]) -> None:
        self._encoders = encoders
        self._cache = CountCache()
        self._counters: dict[str, TextCounter] = {
            name: self._build(name, vocabulary) for name, vocabulary in VOCABULARIES.items()
        }

    @property
    def exact(self) -> frozenset[str]:
        """Vocabularies that count exactly; others are estimated from o200k or from bytes."""
        return frozenset(self._encoders)

    def for_model(self, upstream_model: str, vocabulary: str | None = None) -> TextCounter:
        """
        Return the counter of a model.

        Args:
            upstream_model: The model's name at the upstream; selects the vocabulary by family.
            vocabulary: One of `VOCABULARIES` from the catalogue; takes precedence.
        """
        return self._counters[vocabulary or vocabulary_of(upstream_model)]

    def _build(self, name: str, vocabulary: Vocabulary) -> TextCounter:
        encode, ratio, salt = self._encoders.get(name), None, name
        if encode is None:
            encode, ratio, salt = self._encoders.get(BASE), vocabulary, BASE
        if encode is None:
            return BytesCounter()
        return VocabularyCounter(encode, ratio=ratio, salt=salt.encode(), cache=self._cache)


def load_counters(vocabularies: Collection[str] = ()) -> Counters:
    """
    Return counters with o200k and the named vocabularies loaded.

    Each takes 50 to 150 ms and 24 to 40 MB, so this is called once, before the workers start.
    Vocabularies that are not public are estimated. If the library cannot be loaded on this
    platform, every counter counts bytes / 4.

    Args:
        vocabularies: Names from `VOCABULARIES`.
    """
    try:
        from splintr import Tokenizer  # noqa: PLC0415 # importing it maps 38 MB
    except ImportError:
        return Counters({})
    encoders: dict[str, Encode] = {}
    for name in (BASE, *vocabularies):
        pretrained = VOCABULARIES[name].pretrained
        if pretrained is not None and name not in encoders:
            encode = Tokenizer.from_pretrained(pretrained).encode_ordinary
            encode("xqzvkjw")  # The first unknown word builds the merge table, up to 100 ms.
            encoders[name] = encode
    return Counters(encoders)


async def count_measure(
    measure: Measure, counter: TextCounter, calibration: Calibration = UNCALIBRATED
) -> int:
    """
    Return a request's count without blocking the event loop; see `tokens.count`.

    Args:
        measure: From `measure_messages` or `measure_chat`.
        counter: From `Counters.for_model`.
        calibration: From earlier calls of the model.
    """
    return measure.total(await counter.count_all(measure.texts), calibration)


def slices(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most 4096 characters, before white space if possible."""
    start = 0
    while len(text) - start > SLICE_CHARS:
        end = start + SLICE_CHARS
        middle = start + SLICE_CHARS // 2
        cut = max(text.rfind(" ", middle, end), text.rfind("\n", middle, end))
        end = cut if cut > 0 else end
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def is_cjk(text: str) -> bool:
    """Return whether most of a text's beginning is Chinese, Japanese or Korean."""
    head = text[:SLICE_CHARS]
    return not head.isascii() and len(head.encode()) > 2 * len(head)
