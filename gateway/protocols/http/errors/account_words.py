"""
Recognises errors about the operator's account at a provider, and unknown models, by message.

Such messages name accounts, plans and upstream models, which must not reach clients.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.protocols.http.errors.context_full import SCANNED_CHARS

_ACCOUNT: Final = re.compile(
    r"insufficient[ _](?:account |user )?(?:balance|credit|fund|quota)"
    r"|balance is (?:too low|insufficient|not enough)"  # Anthropic with 400, SiliconFlow; 2026-11
    r"|(?:please|to) (?:recharge|top up)|recharge your"  # Moonshot, GLM; 2026-11
    r"|used all (?:of )?(?:your |its )?available credits|run out of credits"  # xAI; 2026-11
    r"|(?:reached|exceeded) (?:your|its) (?:specified (?:workspace )?api usage|spend)"
    r"|(?:reached|exceeded) (?:your|its) monthly spending"
    r"|(?:account|organization|team|subscription|resource)\b.{0,60}\b(?:is|has been|was)\b.{0,20}"
    r"\b(?:suspended|disabled|deactivated|blocked|locked|overdue|in arrears)"
    r"|in good standing|billing (?:is not active|account|hard limit)"
    r"|payment (?:required|is overdue)"
    r"|exceeded your current quota"  # OpenAI, Gemini; 2026-11
    r"|usage limit for this (?:billing cycle|period)"  # Kimi Code, with 403 and 429; 2026-11
    r"|usage limit reached for .{0,40}\bplan\b"  # MiniMax (2056), with 429; 2026-05
    # Gemini with FAILED_PRECONDITION (ai.google.dev, "Troubleshooting", 2026-11); the location is
    # that of the gateway.
    r"|location is not supported for the api|free tier is not available"
    r"|prepayment credits|余额不足|欠费|请充值",  # Gemini, GLM, Volcano Ark; 2026-11
    re.IGNORECASE,
)
# Rate limits of OpenAI, Anthropic and Gemini name the organization and how to raise its limits
# (openai/codex#70, stackblitz/bolt.new#8588, n4ze3m/page-assist#406; 2025 to 2026).
_LIMITS: Final = re.compile(
    r"\borganization\b|\byour account\b|account/(?:rate-limits|billing)|contact-sales"
    r"|\((?:[TR]P[MD]|ASPH)\)|check quota|extra usage",
    re.IGNORECASE,
)
# Messages about a quota per minute, such as that of Gemini's free plan, say when to retry.
_DELAY: Final = re.compile(
    r"(?:retry|try again) in ((?:[\d.]{1,12} ?(?:ms|s|m|h|seconds?|minutes?|hours?)){1,3})\b",
    re.IGNORECASE,
)
_CREDENTIAL: Final = re.compile(
    r"(?:incorrect|invalid) (?:x-)?api[ -_]key|api key (?:not valid|is invalid|not found|expired)"
    r"|api key has expired",  # xAI and Gemini, with 400; 2026-11
    re.IGNORECASE,
)
_UNKNOWN_MODEL: Final = re.compile(
    r"model not exist|model .{0,120}?\bdoes(?: not|n't) exist"  # DeepSeek with 400; 2026-11
    r"|invalid model(?: name| id)?[:= ]+\S"  # Mistral and Perplexity with 400; 2026-11
    r"|is not a valid model|no endpoints found"  # OpenRouter with 400 and 404; 2026-11
    r"|(?:unknown|no such) model|model identifier is invalid"  # MiniMax, Bedrock; 2026-11
    r"|model .{0,120}?\b(?:is not found|not found|not supported|has been decommissioned)"
    r"|must be verified to (?:use|stream)"  # OpenAI: the organization, with 400 and 404; 2026-11
    r"|not found the model|模型不存在",  # Moonshot, GLM; 2026-11
    re.IGNORECASE,
)
# OpenRouter also returns 403 if its moderation rejects the prompt (errors-and-debugging, 2026-11),
# and Gemini if a file that the request names is not accessible.
_CONTENT: Final = re.compile(
    r"requires moderation|(?:input|prompt|content) was flagged|flagged (?:for|as|by)\b"
    r"|permission to access the (?:file|cached ?content)"
    r"|content (?:policy|filter|management policy)|(?:safety|guardrail)\b.{0,40}\bblock",
    re.IGNORECASE,
)
# DashScope (error-code-start, 2026-11) reports a limit of tokens per minute with the code
# `insufficient_quota`.
_THROTTLED: Final = re.compile(
    r"allocated quota exceeded|throttling[.:]|requests rate limit exceeded", re.IGNORECASE
)
# Mistral with 429, 400 or 503 (continuedev/continue#6185, litellm#25078, 2026-04).
_NO_CAPACITY: Final = re.compile(r"service tier capacity exceeded", re.IGNORECASE)
_ACCOUNT_IDS: Final = re.compile(
    rb"(?<![A-Za-z0-9])(?:org|proj|ak|acct)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{6,}"
    rb"|(?<=organization `)[^`]+(?=`)"
)
_MASKED: Final = b"[redacted]"


def is_about_account(message: str) -> bool:
    """Return whether a message says that the operator's account lacks credit or is closed."""
    text = message[:SCANNED_CHARS]
    return _ACCOUNT.search(text) is not None and not says_when_to_retry(text)


def mentions_account(message: str) -> bool:
    """Return whether a message mentions the operator's account, plan, limits or payment."""
    text = message[:SCANNED_CHARS]
    return _ACCOUNT.search(text) is not None or _LIMITS.search(text) is not None


def delay_words(message: str) -> str | None:
    """Return the delay after which a message asks to try again, such as `3.89s` or `6m0s`."""
    found = _DELAY.search(message[:SCANNED_CHARS])
    return None if found is None else found[1]


def says_when_to_retry(message: str) -> bool:
    """Return whether a message says when to retry."""
    return delay_words(message) is not None


def is_about_credential(message: str) -> bool:
    """Return whether a message says that the provider rejects the operator's key."""
    return _CREDENTIAL.search(message[:SCANNED_CHARS]) is not None


def is_about_model(message: str) -> bool:
    """Return whether a message says that the provider does not know the model."""
    return _UNKNOWN_MODEL.search(message[:SCANNED_CHARS]) is not None


def is_about_content(message: str) -> bool:
    """Return whether a message says that the provider rejects the content of a request."""
    return _CONTENT.search(message[:SCANNED_CHARS]) is not None


def is_throttled(message: str) -> bool:
    """Return whether a message reports a rate limit, even if the error's code names a quota."""
    return _THROTTLED.search(message[:SCANNED_CHARS]) is not None


def has_no_capacity(message: str) -> bool:
    """Return whether a message reports a lack of capacity, whatever the error's status."""
    return _NO_CAPACITY.search(message[:SCANNED_CHARS]) is not None


def without_account_ids(text: bytes) -> bytes:
    """Return `text` without the ids of organizations, projects and keys."""
    return _ACCOUNT_IDS.sub(_MASKED, text)
