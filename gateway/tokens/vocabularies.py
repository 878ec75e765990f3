"""
Maps models to vocabularies, and vocabularies to their ratio to o200k.

Public vocabularies count exactly. For others (Claude 3 and later, MiniMax), and for those that are
not loaded, o200k counts are multiplied by a ratio, which differs for Chinese, Japanese and Korean
text. The ratios were measured in 2026-11 over mixed text, code, markdown and Chinese; those for
Claude follow its published guidance that Opus 4.7 has about 30 % more tokens than its predecessors.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

BASE: Final = "o200k"
"""The vocabulary used for models without a loaded one."""


class Vocabulary(NamedTuple):
    """A vocabulary and its ratio to o200k."""

    pretrained: str | None
    """Its name in the tokenizer library; None if it is not public."""
    permille: int
    """Tokens per 1000 o200k tokens."""
    cjk_permille: int
    """The same for Chinese, Japanese and Korean text."""


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
    """Return the name of a model's most likely vocabulary; o200k for unknown models."""
    name = upstream_model.lower()
    if "claude" in name:
        version = _CLAUDE.search(name)
        newer = version is not None and (int(version[1]), int(version[2] or 0)) >= (4, 7)
        return "claude-4.7" if newer else "claude"
    for pattern, vocabulary in _FAMILIES:
        if pattern.search(name):
            return vocabulary
    return BASE
