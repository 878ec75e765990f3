"""
What the demo upstream will answer to a prompt.

A prompt may hold directives, each at the start of a line of what the user said last:

    /tool NAME {"json": "arguments"}   call this tool (when the request offers it)
    /think                             think before answering
    /tokens N                          answer with N tokens
    /error STATUS                      refuse with this HTTP status
    /break N                           break the connection after N tokens
    /cut N                             end the stream without its end mark after N tokens
    /stall N                           fall silent after N tokens
"""

from __future__ import annotations

import json
import re

import msgspec

_DIRECTIVE = re.compile(r"^\W*/(think|tokens|error|break|cut|stall)\b[ \t]*(\d*)", re.MULTILINE)
_TOOL = re.compile(r"/tool[ \t]+([A-Za-z0-9_-]+)[ \t]+(?=\{)")
_WORD = re.compile(r"\S+\s*|\s+")
_SLICE = re.compile(r".{1,8}", re.DOTALL)

_THOUGHT = (
    "The caller wants to see the gateway work, so a short and friendly answer will do. "
    "I should say that no model is behind this and how to ask for more."
)
_ANSWER = (
    "Hello from the demo upstream! No model is thinking here: these words come from a script, at "
    "about fifty tokens a second, through the same path that every real answer takes. "
    "Your key was checked, the model name was resolved, this stream is relayed byte for byte, and "
    "its usage is recorded. Put a line with /think, /tokens 500 or /error 429 into your message "
    "to see reasoning, a longer stream or a failure. "
)
_FILLER = "The stream goes on, one small piece at a time, as a real model would send it. "
_DONE = "The tool has answered, so the task is done. "


class Ask(msgspec.Struct, frozen=True):
    """The parts of a request that a script looks at, the same for both dialects."""

    prompt: str
    """All that the user said since the last answer."""
    after_tool: bool
    """A tool's result came since then."""
    tools: frozenset[str]
    thinking: bool
    max_tokens: int
    input_chars: int


class Script(msgspec.Struct, frozen=True):
    """What to answer. `fault` is break, cut or stall and happens after `fault_after` tokens."""

    thinking: tuple[str, ...]
    text: tuple[str, ...]
    tool: tuple[str, str] | None
    """Name and JSON arguments."""
    status: int
    fault: str | None
    fault_after: int
    input_tokens: int
    truncated: bool

    @property
    def output_tokens(self) -> int:
        """Tokens of the whole answer, its thoughts included."""
        arguments = len(slices(self.tool[1])) if self.tool else 0
        return len(self.thinking) + len(self.text) + arguments


def pieces(text: str) -> tuple[str, ...]:
    """Cut a text into what this upstream calls tokens: words with the white space behind them."""
    return tuple(_WORD.findall(text))


def slices(arguments: str) -> tuple[str, ...]:
    """Cut a tool's arguments into tokens."""
    return tuple(_SLICE.findall(arguments))


def read(ask: Ask) -> Script:
    """Return the answer to `ask`. The same question has the same answer."""
    orders = {name: int(number or 0) for name, number in _DIRECTIVE.findall(ask.prompt)}
    tool = None if ask.after_tool else _tool_call(ask)
    text = pieces(_DONE) if ask.after_tool else () if tool else pieces(_ANSWER)
    if orders.get("tokens"):
        text = _filled(text, orders["tokens"])
    thinking = pieces(_THOUGHT) if ask.thinking or "think" in orders else ()
    allowed = max(ask.max_tokens - len(thinking), 0)
    fault = next((name for name in ("break", "cut", "stall") if name in orders), None)
    return Script(
        thinking=thinking,
        text=text[:allowed],
        tool=tool,
        status=orders.get("error") or 200,
        fault=fault,
        fault_after=orders[fault] if fault else 0,
        input_tokens=ask.input_chars // 4 + 1,
        truncated=len(text) > allowed,
    )


def _filled(text: tuple[str, ...], count: int) -> tuple[str, ...]:
    filler = pieces(_FILLER)
    missing = max(count - len(text), 0)
    return (*text, *(filler * (missing // len(filler) + 1))[:missing])[:count]


def _tool_call(ask: Ask) -> tuple[str, str] | None:
    for match in _TOOL.finditer(ask.prompt):
        if match[1] not in ask.tools:
            continue
        rest = ask.prompt[match.end() :]
        # OpenCode sends its message in quotes, with a backslash before each quote inside.
        for written in (rest, rest.replace('\\"', '"')):
            try:
                arguments, _ = json.JSONDecoder().raw_decode(written)
            except ValueError:
                continue
            return match[1], json.dumps(arguments, separators=(",", ":"))
    return None
