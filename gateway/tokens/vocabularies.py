"""
Which vocabulary a model has, and how it relates to one that is at hand.

A public vocabulary counts exactly. Where there is none (Claude 3 and later, MiniMax), or where it
is not loaded, o200k counts and a measured ratio corrects: tokens for each o200k token in code and
prose, and in Chinese, Japanese and Korean text. Measured 2026-11 over mixed text, code, markdown
and Chinese; for Claude from its published guidance that Opus 4.7 has about 30 % more tokens than
its predecessors.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

BASE: Final = "o200k"
"""The vocabulary that stands in for others."""


class Vocabulary(NamedTuple):
    """One vocabulary."""

    pretrained: str | None
    """Its name in the tokenizer library; None: not public."""
    permille: int
    """Tokens for each 1000 of o200k."""
    cjk_permille: int
    """The same in Chinese, Japanese and Korean text."""


VOCABULARIES: Final[dict[str, Vocabulary]] = {
    BASE: Vocabulary("o200k_base", 1000, 1000),
    "cl100k": Vocabulary("cl100k_base", 1130, 1130),
    "deepseek": Vocabulary("deepseek_v3", 1040, 740),
    "kimi": Vocabulary("kimi_k2", 990, 710),
    "qwen": Vocabulary("qwen3", 990, 990),
    "glm": Vocabulary("glm4", 990, 990),
    "llama": Vocabulary("llama3", 1130, 1130),
    "minimax": Vocabulary(None, 990, 710),
    "claude": Vocabulary(None, 1200, 1200),
    "claude-4.7": Vocabulary(None, 1550, 1550),
}

_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_FAMILIES: Final = (
    (re.compile("deepseek"), "deepseek"),
    (re.compile("kimi|moonshot"), "kimi"),
    (re.compile("qwen|qwq"), "qwen"),
    (re.compile("glm-|chatglm"), "glm"),
    (re.compile("minimax|abab"), "minimax"),
    (re.compile("llama"), "llama"),
    (re.compile("gpt-4o|gpt-4\\.1|gpt-4\\.5"), BASE),
    (re.compile("gpt-4|gpt-3"), "cl100k"),
)


def vocabulary_of(upstream_model: str) -> str:
    """Return the name of the vocabulary that a model most likely has; o200k if nothing is known."""
    name = upstream_model.lower()
    if "claude" in name:
        version = _CLAUDE.search(name)
        newer = version is not None and (int(version[1]), int(version[2] or 0)) >= (4, 7)
        return "claude-4.7" if newer else "claude"
    for pattern, vocabulary in _FAMILIES:
        if pattern.search(name):
            return vocabulary
    return BASE
