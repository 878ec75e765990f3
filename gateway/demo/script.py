"""
Determines the demo upstream's response to a prompt.

A prompt may contain directives, each at the start of a line of the last user message:

    /tool NAME {"json": "arguments"}   call this tool, if the request defines it; several are called
                                       one after the other, each after the result of the one before
    /think                             reason before responding
    /tokens N                          respond with N tokens
    /fault KIND [NAME=VALUE ...]       fail in this way, see `faults`
    /error STATUS                      respond with this HTTP status
    /break N                           close the connection after N tokens: /fault cut
    /cut N                             end the stream cleanly after N tokens: /fault end_early
    /stall N                           stop sending after N tokens: /fault hang_stream

The last three break streams only, so that a client's attempt without streaming succeeds.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gateway.demo.faults import Fault, Kind, parse
from gateway.protocols.codec.nesting import is_deep

_DIRECTIVE = re.compile(r"^\W*/(think|tokens|error|break|cut|stall)\b[ \t]*(\d*)", re.MULTILINE)
_FAULT = re.compile(r"^\W*/fault[ \t]+([a-z0-9_]+(?:[ \t]+[a-z_]+=[0-9.]+)*)", re.MULTILINE)
_SHORT_NAMES: dict[str, Kind] = {"break": "cut", "cut": "end_early", "stall": "hang_stream"}
_TOOL = re.compile(r"/tool[ \t]+([A-Za-z0-9_-]+)[ \t]+(?=\{)")
_WORD = re.compile(r"\S+\s*|\s+")
_SLICE = re.compile(r".{1,8}", re.DOTALL)

_REASONING = (
    "The client is trying out the gateway, so a short and friendly response will do. "
    "I should say that there is no model here, and how to request more."
)
_RESPONSE = (
    "Hello from the demo upstream! No model is thinking here: these words come from a script, at "
    "about fifty tokens a second, through the same path as every real response. "
    "Your key was checked, the model name was resolved, this stream is relayed byte for byte, and "
    "its usage is recorded. Add a line with /think, /tokens 500 or /error 429 to your message "
    "to see reasoning, a longer stream or a failure. "
)
_FILLER = "The stream goes on, one small piece at a time, as a real model would send it. "
_DONE = "The tool has responded, so the task is done. "


class Prompt(msgspec.Struct, frozen=True):
    """The parts of a request that a script depends on, in either dialect."""

    text: str
    """The user's messages since the last response."""
    task: str
    """The user's last message with a tool directive, or no text."""
    results: int
    """Tool results since then."""
    after_tool: bool
    """Whether there is a tool result since the last response."""
    tools: frozenset[str]
    thinking: bool
    max_tokens: int
    input_chars: int


class Event(NamedTuple):
    """One event of a stream."""

    data: bytes
    is_token: bool
    """Whether it is delayed like a token of a model."""
    output_tokens: int | None = None
    """The output in the usage that it reports; None: none."""


class Script(msgspec.Struct, frozen=True):
    """The content of a response."""

    thinking: tuple[str, ...]
    text: tuple[str, ...]
    tool: tuple[str, str] | None
    """Name and JSON arguments."""
    fault: Fault | None
    """The fault that the prompt requests."""
    input_tokens: int
    truncated: bool

    @property
    def output_tokens(self) -> int:
        """Tokens of the response, including reasoning."""
        arguments = len(slices(self.tool[1])) if self.tool else 0
        return len(self.thinking) + len(self.text) + arguments

    def with_text(self, text: str) -> Script:
        """Return the script with another text that counts as many tokens."""
        rest = ("",) * (len(self.text) - 1)
        return msgspec.structs.replace(self, text=(text, *rest))


def pieces(text: str) -> tuple[str, ...]:
    """Cut a text into tokens: words with the white space after them."""
    return tuple(_WORD.findall(text))


def slices(arguments: str) -> tuple[str, ...]:
    """Cut a tool's arguments into tokens."""
    return tuple(_SLICE.findall(arguments))


def read(prompt: Prompt) -> Script:
    """
    Return the response to a prompt; equal prompts have equal responses.

    Raises:
        FaultError: The prompt has a `/fault` that is not written correctly.
    """
    directives = {name: int(number or 0) for name, number in _DIRECTIVE.findall(prompt.text)}
    # Some clients repeat the task after the results.
    done = max(prompt.results, 1) if prompt.after_tool else 0
    tool = next(itertools.islice(_tool_calls(prompt), done, None), None)
    text = () if tool else pieces(_DONE if prompt.after_tool else _RESPONSE)
    if directives.get("tokens"):
        text = _filled(text, directives["tokens"])
    thinking = pieces(_REASONING) if prompt.thinking or "think" in directives else ()
    allowed = max(prompt.max_tokens - len(thinking), 0)
    return Script(
        thinking=thinking,
        text=text[:allowed],
        tool=tool,
        fault=_fault(prompt.text, directives),
        input_tokens=prompt.input_chars // 4 + 1,
        truncated=len(text) > allowed,
    )


def _fault(text: str, directives: dict[str, int]) -> Fault | None:
    if written := _FAULT.search(text):
        return parse(written[1])
    if 400 <= directives.get("error", 0) <= 599:
        return Fault("status", status=directives["error"])
    for name, kind in _SHORT_NAMES.items():
        if name in directives:
            return Fault(kind, after=directives[name], streams_only=True)
    return None


def _filled(text: tuple[str, ...], count: int) -> tuple[str, ...]:
    filler = pieces(_FILLER)
    missing = max(count - len(text), 0)
    return (*text, *(filler * (missing // len(filler) + 1))[:missing])[:count]


def has_tool_directive(text: str) -> bool:
    """Return whether a message asks for a tool."""
    return _TOOL.search(text) is not None


def _tool_calls(prompt: Prompt) -> Iterator[tuple[str, str]]:
    text = prompt.task if prompt.after_tool else prompt.text
    while match := _TOOL.search(text):
        text = text[match.end() :]
        # OpenCode sends its message quoted, with escaped quotes inside.
        for written in (text, text.replace('\\"', '"')):
            if is_deep(written):
                continue
            try:
                arguments, end = json.JSONDecoder().raw_decode(written)
            except ValueError:
                continue
            text = written[end:]
            if match[1] in prompt.tools:
                yield match[1], json.dumps(arguments, separators=(",", ":"))
            break
