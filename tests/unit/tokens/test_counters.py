"""Counting in real vocabularies."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.calibration import Calibration
from gateway.tokens.count import Bytes4, measure_messages
from gateway.tokens.counters import (
    CACHE_ENTRIES,
    SLICE_CHARS,
    CountCache,
    Counters,
    VocabularyCounter,
    count_measure,
    is_cjk,
    load_counters,
    slices,
)
from gateway.tokens.vocabularies import BASE, VOCABULARIES, Vocabulary, vocabulary_of

PROSE = "The gateway counts what it sends; nothing is counted twice, and nothing is left out. "


class Words:
    """A vocabulary in which every word is a token; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, text: str) -> Sequence[int]:
        self.asked.append(text)
        return range(len(text.split()))


def counter(words: Words, ratio: Vocabulary | None = None) -> VocabularyCounter:
    return VocabularyCounter(words.encode, ratio=ratio, salt=b"words", cache=CountCache())


@pytest.fixture(name="counters", scope="module")
def _counters() -> Counters:
    return load_counters(["deepseek"])


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-5.5", "o200k"),
        ("gpt-4o-mini", "o200k"),
        ("gpt-4.1", "o200k"),
        ("gpt-4-turbo", "cl100k"),
        ("deepseek-v4-flash", "deepseek"),
        ("moonshotai/Kimi-K3", "kimi"),
        ("Qwen/Qwen3-Coder", "qwen"),
        ("glm-5", "glm"),
        ("MiniMax-M3", "minimax"),
        ("meta-llama/llama-4", "llama"),
        ("claude-3-5-sonnet-20241022", "claude"),
        ("claude-opus-4-20250514", "claude"),
        ("claude-sonnet-4-6", "claude"),
        ("claude-opus-4-7", "claude-4.7"),
        ("anthropic/claude-opus-4.8", "claude-4.7"),
        ("claude-sonnet-5", "claude-4.7"),
        ("claude-fable-5-1", "claude-4.7"),
        ("claude-next", "claude"),
        ("something-else", "o200k"),
    ],
)
def test_vocabulary_follows_the_models_family(model: str, vocabulary: str) -> None:
    """A model's name selects its vocabulary; unknown models use o200k."""
    assert vocabulary_of(model) == vocabulary


def test_every_vocabulary_loads_and_counts_a_known_text() -> None:
    """Each public vocabulary of the table exists in the library and gives its known count."""
    counters = load_counters(VOCABULARIES)

    assert counters.exact == {
        name for name, vocabulary in VOCABULARIES.items() if vocabulary.pretrained
    }
    for name in counters.exact:
        assert counters.for_model("", name).count("Hello, world") == 3


def test_markers_spelled_out_are_plain_text(counters: Counters) -> None:
    """Text in the form of a control token is counted as text."""
    assert counters.for_model("gpt-5").count("<|endoftext|>" * 10) > 50


def test_missing_vocabulary_is_estimated_by_its_ratio(counters: Counters) -> None:
    """Without a vocabulary of its own a model's count is o200k's times its ratio."""
    text = PROSE * 100
    base = counters.for_model("gpt-5").count(text)

    assert counters.for_model("claude-opus-4-6").count(text) == (base * 12 + 5) // 10
    assert counters.for_model("claude-opus-4-8").count(text) == (base * 155 + 50) // 100
    assert counters.for_model("x", "kimi").count(text) == (base * 99 + 50) // 100
    chinese = "你好，世界。" * 50
    assert counters.for_model("x", "deepseek").count(chinese) < 250
    assert (
        counters.for_model("x", "kimi").count(chinese)
        == (counters.for_model("x", BASE).count(chinese) * 71 + 50) // 100
    )


def test_without_the_library_everything_is_bytes_by_four(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the library cannot be imported, counting still works."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "splintr":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    counters = load_counters(["deepseek"])

    assert counters.exact == frozenset()
    assert counters.for_model("claude-opus-4-8").count("abcde") == 2
    assert asyncio.run(counters.for_model("x").count_all(["abcde", "a"])) == 3


async def test_count_of_a_request_is_the_same_with_pauses(counters: Counters) -> None:
    """Counting in turns with the loop gives what counting at once gives."""
    body = b'{"system":"%b","messages":[{"role":"user","content":"Hi"}]}' % (PROSE * 3000).encode()
    measure = measure_messages(body)
    fresh = load_counters().for_model("gpt-5")

    total = await count_measure(measure, fresh, Calibration(1.5))

    texts = sum(counters.for_model("gpt-5").count(text) for text in measure.texts)
    assert total == measure.total(texts, Calibration(1.5))


async def test_long_texts_leave_turns_to_the_loop() -> None:
    """While a long text is counted, other tasks go on."""
    turns = 0

    class Slow(Words):
        def encode(self, text: str) -> Sequence[int]:
            deadline = asyncio.get_running_loop().time() + 0.003
            while asyncio.get_running_loop().time() < deadline:
                pass
            return super().encode(text)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await counter(Slow()).count_all([f"{number} word " * 2000 for number in range(3)])
    task.cancel()

    assert turns >= 6


def test_counts_are_remembered_by_slice_and_not_by_text() -> None:
    """What was counted once is not encoded again; a text that grew only costs its new end."""
    words = Words()
    made = counter(words)
    text = "word " * 5000

    first = made.count(text)
    asked = len(words.asked)
    assert made.count(text) == first == 5000
    assert len(words.asked) == asked
    assert made.count(text + "more words here") == 5003
    assert len(words.asked) == asked + 1
    assert max(map(len, words.asked)) <= SLICE_CHARS


def test_short_texts_are_not_remembered() -> None:
    """Texts that count faster than a look-up stay out of the cache."""
    cache = CountCache()
    made = VocabularyCounter(Words().encode, ratio=None, salt=b"w", cache=cache)

    assert (made.count("a b"), len(cache)) == (2, 0)
    assert (made.count("a " * 50), len(cache)) == (50, 1)


def test_cache_is_bounded_and_forgets_the_oldest() -> None:
    """The least recently used count goes first."""
    cache = CountCache(entries=2)
    cache.put(b"a", 1)
    cache.put(b"b", 2)
    assert cache.get(b"a") == 1

    cache.put(b"c", 3)

    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c"), len(cache)) == (1, None, 3, 2)
    assert CACHE_ENTRIES == 65_536


def test_vocabularies_do_not_share_counts() -> None:
    """The same text has a count in each vocabulary."""
    cache = CountCache()
    text = "word " * 100
    first = VocabularyCounter(Words().encode, ratio=None, salt=b"one", cache=cache)
    second = VocabularyCounter(lambda text: range(len(text)), ratio=None, salt=b"two", cache=cache)

    assert (first.count(text), second.count(text)) == (100, 500)


@given(st.text(st.sampled_from(" \nab你"), max_size=60), st.integers(1, 400))
def test_slices_are_the_text_cut_before_white_space(piece: str, times: int) -> None:
    """Slices join to the text, are short, and start with white space where there is any."""
    text = piece * times
    cut = list(slices(text))

    assert "".join(cut) == text
    assert all(len(part) <= SLICE_CHARS for part in cut)
    for part in cut[1:]:
        assert part[0] in " \n" or not {" ", "\n"} & set(piece) or len(piece) == 0


def test_slicing_hardly_changes_the_count(counters: Counters) -> None:
    """The sum over slices is within 0.1 % of the whole's count on prose."""
    splintr = pytest.importorskip("splintr")
    text = "".join(f"{number}. {PROSE}\n" for number in range(5000))

    whole = len(splintr.Tokenizer.from_pretrained("o200k_base").encode_ordinary(text))

    assert counters.for_model("gpt-5").count(text) == pytest.approx(whole, rel=0.001)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", False), ("", False), ("你好世界", True), ("これはペンです", True), ("Привет", False)],
)
def test_is_cjk_by_size(text: str, expected: bool) -> None:
    """Three-byte characters identify Chinese, Japanese and Korean."""
    assert is_cjk(text) is expected
    assert Bytes4().count(text) <= len(text)
