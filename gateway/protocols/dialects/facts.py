"""
Facts about the dialects, one line for each: what is documented, where, and when it was read.

`Capabilities`, the error codes and the usage reader act on them. docs/dialects.md shows the lines,
and tests/unit/protocols/test_dialect_usage.py has an example of each way to report usage.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Fact(NamedTuple):
    """
    One documented fact.

    Attributes:
        dialect: As in `providers.dialect`.
        text: What is documented.
        source: Where.
        seen: The month in which it was read or reported.
        name: Of a usage fact: names its example in the tests.
    """

    dialect: str
    text: str
    source: str
    seen: str
    name: str = ""


REQUEST_FACTS: Final[tuple[Fact, ...]] = (
    Fact("openai", "`max_completion_tokens`, at least 16; reasoning models refuse sampling fields "
         "and `stop`; tool-call ids have at most 40 characters.",
         "developers.openai.com, API reference", "2026-11"),
    Fact("azure", "Efforts as at OpenAI without `max`; tiers, cache keys and files depend on the "
         "API version and are not sent.",
         "learn.microsoft.com, ReasoningEffort", "2026-11"),
    Fact("deepseek", "Thinking is switched by `thinking`; messages with tool calls must carry "
         "`reasoning_content`; no forced tool while thinking; no images, JSON mode only.",
         "api-docs.deepseek.com, Thinking mode", "2026-11"),
    Fact("moonshot", "`thinking`; `tool_choice` has no `required`; in tool schemas a `$ref` has no "
         "siblings; a prefix is continued with `partial`.",
         "platform.kimi.ai, Chat Completions", "2026-11"),
    Fact("minimax", "`reasoning_split` moves reasoning to `reasoning_details`; otherwise it is in "
         "`<think>` tags within the content.",
         "platform.minimax.io, Chat Completions (OpenAI compatible)", "2026-11"),
    Fact("minimax", "`temperature` and `top_p` above 0 and up to 1, only one choice; the native "
         "text-chat endpoint limits the output to 2,048 tokens. Passed on: the provider returns "
         "400 beyond them.",
         "platform.minimax.io/docs/api-reference/text-chat", "2026-11"),
    Fact("gemini", "Efforts as `reasoning_effort`, or a budget in `extra_body.google`; the first "
         "tool call of a message must carry its thought signature.",
         "ai.google.dev, OpenAI compatibility", "2026-11"),
    Fact("xai", "grok-4.5 cannot switch reasoning off (grok-4.3 can).", "docs.x.ai, Reasoning",
         "2026-11"),
    Fact("xai", "`stop` is rejected by reasoning models.",
         "github.com/lidge-jun/opencodex/issues/5278", "2026-09"),
    Fact("zai", "`thinking.type`; reasoning is sent back together with tool results.",
         "docs.z.ai, Thinking mode", "2026-11"),
    Fact("zai", "`tool_choice` only `auto`, one stop string; no `stream_options`, schema or "
         "`strict`.", "java.agentscope.io, GLM", "2026-11"),
    Fact("qwen", "`enable_thinking` and `thinking_budget` in each request; no forced tool while "
         "thinking.", "help.aliyun.com, Deep thinking", "2026-11"),
    Fact("qwen", "No `required`; response schemas for few models only.",
         "docs.instructorphp.com, Qwen", "2026-11"),
    Fact("mistral", "Tool-call ids are exactly nine letters and digits.",
         "github.com/anomalyco/opencode/issues/1680", "2025-08"),
    Fact("mistral", "`stream_options` is refused with 422; usage comes without it.",
         "github.com/avante-corp/avante.nvim/issues/2347", "2025-06"),
    Fact("groq", "Reasoning is in `reasoning`; the efforts are those of gpt-oss.",
         "console.groq.com/docs/reasoning", "2026-11"),
    Fact("openrouter", "One `reasoning` object for all models; cache markers are passed on.",
         "openrouter.ai/docs/use-cases/reasoning-tokens", "2026-11"),
    Fact("vllm", "Without a reasoning parser the text contains the reasoning, often with only its "
         "closing tag.", "github.com/Portkey-AI/gateway/issues/1327", "2025-09"),
    Fact("anthropic", "Adaptive thinking by efforts; signatures of thinking blocks are verified.",
         "platform.claude.com, Extended thinking", "2026-11"),
    Fact("anthropic-legacy", "Thinking by a budget of tokens; no system messages within the "
         "conversation.", "platform.claude.com, Extended thinking", "2026-11"),
)  # fmt: skip

USAGE_FACTS: Final[tuple[Fact, ...]] = (
    Fact("openai", "In a chunk of its own without choices.",
         "developers.openai.com, API reference, chat object and chunk", "2026-11", "openai"),
    Fact("openai", "`prompt_tokens_details.cache_write_tokens`, within the prompt.",
         "github.com/openai/openai-python, types/responses/response_usage.py", "2026-11",
         "openai-cache-write"),
    Fact("azure", "As OpenAI's; before it a chunk with the prompt's content filter.",
         "learn.microsoft.com, Azure OpenAI in Foundry, streaming and content filter", "2026-11",
         "azure"),
    Fact("azure", "Grok's `cached_tokens` may exceed the prompt: at most the prompt counts.",
         "recordings of Azure's Grok, 32 of 32", "2026-11", "azure-grok"),
    Fact("deepseek", "`prompt_cache_hit_tokens` beside the usual details.",
         "api-docs.deepseek.com, Context caching and Chat completion", "2026-11", "deepseek"),
    Fact("deepseek", "Without `stream_options`, with the finish reason.",
         "api-docs.deepseek.com, Chat completion", "2026-11", "deepseek-last"),
    Fact("moonshot", "Within the last choice, cached tokens beside the prompt.",
         "github.com/earendil-works/pi/issues/2017", "2026-03", "moonshot"),
    Fact("minimax", "With the finish reason; `total_characters` is no count of tokens.",
         "platform.minimax.io, Chat Completions (OpenAI compatible)", "2026-11", "minimax"),
    Fact("minimax", "Zeros in every chunk before the last, without prompt and completion.",
         "github.com/MiniMax-AI/MiniMax-M2.5/issues/2", "2026-02", "minimax-zeros"),
    Fact("gemini", "In every chunk; reasoning only in the total.",
         "github.com/openai/openai-python/issues/2544", "2025-12", "gemini"),
    Fact("vllm", "With `continuous_usage_stats`, in every chunk.",
         "github.com/vllm-project/vllm/pull/6652", "2024-07", "vllm"),
    Fact("xai", "Reasoning outside of the completion, within the total.",
         "github.com/Wei-Shaw/sub2api/issues/5771, with what xAI charged", "2026-08", "xai"),
    Fact("xai", "The same if cached tokens and reasoning are equal.",
         "docs.x.ai, Consumption and rate limits", "2026-02", "xai-equal-counts"),
    Fact("zai", "With the finish reason.", "github.com/QuantumNous/new-api/pull/2550", "2025-12",
         "zai"),
    Fact("qwen", "The explicit cache counts what it writes in `cache_creation_input_tokens`.",
         "alibabacloud.com/help/en/model-studio/context-cache", "2026-06", "qwen"),
    Fact("qwen", "The same within `cache_creation`.",
         "alibabacloud.com/help/en/model-studio/context-cache", "2026-01", "qwen-nested"),
    Fact("mistral", "Cached tokens in three places.", "github.com/vercel/ai/pull/14889", "2026-05",
         "mistral"),
    Fact("mistral", "Voxtral's audio tokens are outside of the prompt, within the total.",
         "recordings of Voxtral", "2026-11", "mistral-audio"),
    Fact("groq", "Within `x_groq` of the last chunk.", "github.com/vercel/ai, packages/groq",
         "2026-07", "groq"),
    Fact("openrouter", "Beside an empty delta after the finish reason, with the cost.",
         "openrouter.ai/docs/use-cases/usage-accounting", "2026-11", "openrouter"),
    Fact("anthropic", "The input at the start, the output at the end, cumulative; cache writes of "
         "an hour and of five minutes apart.",
         "platform.claude.com, Streaming and Prompt caching", "2026-11", "anthropic"),
    Fact("anthropic-legacy", "As `anthropic`.",
         "platform.claude.com, Streaming and Prompt caching", "2026-11", "anthropic"),
)  # fmt: skip

ERROR_FACTS: Final[tuple[Fact, ...]] = (
    Fact("openai", "`error` with `type` and `code`; rate limits name the organization, which "
         "clients are not shown.", "developers.openai.com, Error codes", "2026-11"),
    Fact("azure", "As OpenAI's; a filtered prompt is 400 `content_filter`, a blocked resource 403.",
         "learn.microsoft.com, Azure OpenAI in Foundry", "2026-11"),
    Fact("anthropic", "`type: error`; no credit is 400, a spent limit also.",
         "platform.claude.com, Errors", "2026-11"),
    Fact("gemini", "A list of errors with a status string; spent credit is 402 (429 before) with "
         "`RESOURCE_EXHAUSTED`, an invalid key 400.",
         "ai.google.dev, Troubleshooting; discuss.ai.google.dev/t/183654", "2026-11"),
    Fact("deepseek", "402 without balance, 422 for invalid fields, an unknown model is 400.",
         "api-docs.deepseek.com/quick_start/error_codes", "2026-11"),
    Fact("moonshot", "429 also for a spent balance and for a full engine: the type says which.",
         "kimi.com/code/docs, Error reference", "2026-11"),
    Fact("minimax", "`base_resp` under status 200, or Anthropic's form with the number at the end "
         "of the message.", "platform.minimax.io/docs/api-reference/errorcode", "2026-11"),
    Fact("xai", "400 for an incorrect key, 403 for a blocked team.",
         "docs.x.ai/developers/debugging", "2026-11"),
    Fact("zai", "Business codes as strings; 429 also for plans, locked accounts and arrears.",
         "docs.z.ai/api-reference/api-code", "2026-11"),
    Fact("qwen", "`insufficient_quota` with 429 is a limit of tokens per minute; arrears are 400.",
         "help.aliyun.com/en/model-studio/error-code-start", "2026-11"),
    Fact("mistral", "The members of the error at the top; FastAPI's `detail` for invalid fields.",
         "docs.mistral.ai/resources/error-glossary", "2026-11"),
    Fact("groq", "413 and 429 for one request above the tokens per minute; 498 for the flex tier.",
         "console.groq.com/docs/errors", "2026-11"),
    Fact("openrouter", "The code is the HTTP status, the cause in `metadata`; 402 is transient for "
         "the budget of running calls; 403 is a budget, moderation or a key.",
         "openrouter.ai/docs/api/reference/errors-and-debugging", "2026-11"),
    Fact("vllm", "The members of the error at the top or in `error`; in a stream an `error:` line.",
         "github.com/vllm-project/vllm/issues/3485", "2026-11"),
)  # fmt: skip
