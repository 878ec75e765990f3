"""
Estimates the input tokens of a request without a provider.

A request is walked once and split into texts, which a `Counter` counts, and parts of a fixed number
of tokens: the frames of messages, calls and tools, images, files. Walking and counting are separate
so that long texts can be counted in slices without blocking the event loop.

    n = 3 + messages (4 + texts + reasoning + images + 3000 per file + calls (8 + name + arguments))
          + tools (8 + name + description + compact parameters) + typed tools (8 + their JSON)
          + compact schema of the response

A Messages request is counted as the chat request to which it would be translated: tool results are
separate messages, and Claude Code's billing line is neither sent nor counted. Content that
translation would reject is no error here, since clients count requests before they send them.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.ids import short_name
from gateway.tokens.calibration import Calibration
from gateway.tokens.images import UNKNOWN_TOKENS, image_tokens, url_tokens

Json = dict[str, object]

UNCALIBRATED: Final = Calibration()
_BODY: Final = msgspec.json.Decoder(dict[str, object])
_BASE: Final = 3
_PER_MESSAGE: Final = 4
_PER_CALL: Final = 8
_PER_FILE: Final = 3000
_BILLING: Final = "x-anthropic-billing-header:"
_ATTACHED: Final = "[attachment in the next message]"


class Counter(Protocol):
    """Counts the tokens of a text in one vocabulary."""

    def count(self, text: str) -> int:
        """Return the tokens of `text`; 0 for the empty text."""


class Bytes4:
    """A counter without a vocabulary: one token per four bytes of UTF-8, rounded up."""

    __slots__ = ()

    def count(self, text: str) -> int:
        """Return ceil(bytes / 4)."""
        size_bytes = len(text) if text.isascii() else len(text.encode(errors="replace"))
        return -(-size_bytes // 4)


class Measure:
    """A request split into `texts` to count and a `fixed` number of tokens."""

    __slots__ = ("fixed", "texts")

    def __init__(self) -> None:
        self.fixed = _BASE
        self.texts: list[str] = []

    def total(self, text_tokens: int, calibration: Calibration = UNCALIBRATED) -> int:
        """
        Return the total number of tokens.

        Args:
            text_tokens: The sum over `texts`.
            calibration: From earlier calls of the model.
        """
        return calibration.apply(self.fixed + text_tokens)

    def _message(self, content: str | list[str | int]) -> None:
        self.fixed += _PER_MESSAGE
        for part in [content] if isinstance(content, str) else content:
            if isinstance(part, int):
                self.fixed += part
            else:
                self._text(part)

    def _call(self, name: object, arguments: str) -> None:
        self.fixed += _PER_CALL
        self._text(short_name(_str(name)) if name else "")
        self._text(arguments)

    def _tool(self, name: object, description: object, parameters: object) -> None:
        self._call(name, "" if parameters is None else _compact(parameters))
        self._text(_str(description))

    def _schema(self, schema: object) -> None:
        if schema:
            self._text(_compact(schema))

    def _text(self, text: str) -> None:
        if text:
            self.texts.append(text)


def measure_messages(body: bytes) -> Measure:
    """
    Split an Anthropic Messages request.

    Raises:
        GatewayError: BAD_REQUEST: not a JSON object, or nested too deeply.
    """
    measure = _MessagesMeasure()
    measure.walk(decode_request(body, _BODY))
    return measure


def measure_chat(body: bytes) -> Measure:
    """
    Split an OpenAI Chat Completions request.

    Raises:
        GatewayError: As `measure_messages`.
    """
    measure = _ChatMeasure()
    measure.walk(decode_request(body, _BODY))
    return measure


class _ChatMeasure(Measure):
    """Splits a chat request."""

    __slots__ = ()

    def walk(self, request: Json) -> None:
        for message in _objects(request.get("messages")):
            self.message(message)
        for tool in _objects(request.get("tools")):
            self.tool(tool)
        for function in _objects(request.get("functions")):
            self.function(function)
        response_format = _object(request.get("response_format"))
        self._schema(_object(response_format.get("json_schema")).get("schema"))

    def message(self, message: Json) -> None:
        content = message.get("content")
        if isinstance(content, list):
            self._message([_chat_part(part) for part in _objects(content)])
        else:
            self._message(_str(content))
        self._text(_str(message.get("reasoning_content")) or _str(message.get("reasoning")))
        self._text(_str(message.get("refusal")))
        for call in _objects(message.get("tool_calls")):
            function = _object(call.get("function")) or _object(call.get("custom"))
            arguments = function.get("arguments") or function.get("input")
            self._call(function.get("name"), _str(arguments))
        if function := _object(message.get("function_call")):
            self._call(function.get("name"), _str(function.get("arguments")))

    def tool(self, tool: Json) -> None:
        if function := _object(tool.get("function")):
            self.function(function)
        else:
            self._call(None, _compact(tool))

    def function(self, function: Json) -> None:
        self._tool(function.get("name"), function.get("description"), function.get("parameters"))


class _MessagesMeasure(Measure):
    """Splits a Messages request as the chat messages to which it would be translated."""

    __slots__ = ()

    def walk(self, request: Json) -> None:
        self.system(request.get("system"))
        for message in _objects(request.get("messages")):
            self.turn(message)
        for tool in _objects(request.get("tools")):
            self.tool(tool)
        output = _object(request.get("output_config"))
        form = _object(output.get("format") or request.get("output_format"))
        self._schema(form.get("schema"))

    def system(self, system: object) -> None:
        if isinstance(system, str):
            if system.startswith(_BILLING):
                system = system.partition("\n")[2]
            texts = [system]
        else:
            texts = [_str(block.get("text")) for block in _objects(system)]
        self._system_message([text for text in texts if not text.startswith(_BILLING)])

    def turn(self, message: Json) -> None:
        content = message.get("content")
        match message.get("role"):
            case "assistant":
                self._assistant(content)
            case "system":
                blocks = _objects(content)
                texts = [_str(block.get("text")) for block in blocks if block.get("type") == "text"]
                self._system_message([content] if isinstance(content, str) else texts)
            case _:
                self._user(content)

    def tool(self, tool: Json) -> None:
        if tool.get("type") in (None, "custom"):
            self._tool(tool.get("name"), tool.get("description"), tool.get("input_schema"))
        else:
            self._call(None, _compact(tool))

    def _system_message(self, texts: list[str]) -> None:
        texts = [text for text in texts if text]
        if texts:
            self._message("\n\n".join(texts))

    def _user(self, content: object) -> None:
        if isinstance(content, str):
            self._message(content)
            return
        rest: list[str | int] = []
        for block in _objects(content):
            if block.get("type") == "tool_result":
                self._tool_result(block, rest)
            else:
                rest.extend(_block_parts(block))
        texts = [part for part in rest if isinstance(part, str)]
        if texts and len(texts) == len(rest):
            self._message("\n\n".join(texts))
        elif rest:
            self._message(rest)

    def _tool_result(self, block: Json, attachments: list[str | int]) -> None:
        content = block.get("content")
        if isinstance(content, list):
            title = f"Attachment returned by tool call {_str(block.get('tool_use_id'))}:"
            lines: list[str] = []
            for part in _result_parts(content):
                if isinstance(part, str):
                    lines.append(part)
                else:
                    lines.append(_ATTACHED)
                    attachments += [title, part]
            text = "\n".join(lines)
        else:
            text = _str(content)
        failed = block.get("is_error") is True
        if failed and not text.lower().startswith(("error", "<tool_use_error>")):
            text = f"Error: {text}"
        self._message(text)

    def _assistant(self, content: object) -> None:
        if isinstance(content, str):
            if content:
                self._message(content)
            return
        blocks = _objects(content)
        text = "".join(_assistant_text(block) for block in blocks)
        reasoning = "\n".join(filter(None, (_str(block.get("thinking")) for block in blocks)))
        calls = [block for block in blocks if block.get("type") == "tool_use"]
        if text or reasoning or calls:
            self._message(text)
            self._text(reasoning)
        for call in calls:
            arguments = call.get("input")
            self._call(call.get("name"), "{}" if arguments is None else _compact(arguments))


def _chat_part(part: Json) -> str | int:
    match part.get("type"):
        case "image_url":
            image = part.get("image_url")
            return url_tokens(_str(_object(image).get("url") or image))
        case "file":
            return _PER_FILE
        case "input_audio" | "video_url":
            return UNKNOWN_TOKENS
        case _:
            return _str(part.get("text")) or _str(part.get("refusal"))


def _block_parts(block: Json) -> list[str | int]:
    """Return the non-empty texts and fixed tokens of a block of a user's message."""
    kind = block.get("type")
    parts: list[str | int]
    match kind:
        case "text":
            parts = [_str(block.get("text"))]
        case "image":
            source = _object(block.get("source"))
            data = source.get("data") if source.get("type") == "base64" else None
            parts = [image_tokens(data) if isinstance(data, str) else UNKNOWN_TOKENS]
        case "document":
            parts = _document_parts(block)
        case "search_result":
            heads = (_str(block.get("title")), _str(block.get("source")))
            parts = [_lines(*heads, _contained_text(block.get("content")))]
        case "compaction":
            parts = [_contained_text(block.get("content"))]
        case _:
            parts = [_compact(block)]
    return [part for part in parts if part != ""]


def _document_parts(block: Json) -> list[str | int]:
    source = _object(block.get("source"))
    head = _lines(_str(block.get("title")), _str(block.get("context")))
    match source.get("type"):
        case "text":
            return [_lines(head, _str(source.get("data")))]
        case "content":
            content = source.get("content")
            if isinstance(content, str):
                return [head, content]
            return [head, *(part for inner in _objects(content) for part in _block_parts(inner))]
        case _:
            return [_PER_FILE]


def _result_parts(content: list[object]) -> list[str | int]:
    parts: list[str | int] = []
    for block in _objects(content):
        match block.get("type"):
            case "text":
                parts.append(_str(block.get("text")))
            case "tool_reference":
                parts.append(f"Loaded tool: {_str(block.get('tool_name'))}")
            case "image" | "document" | "search_result":
                parts.extend(_block_parts(block))
            case _:
                parts.append(_compact(block))
    return parts


def _assistant_text(block: Json) -> str:
    if block.get("type") == "text":
        return _str(block.get("text"))
    return _contained_text(block.get("content")) if block.get("type") == "compaction" else ""


def _contained_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return _lines(*(_str(block.get("text")) for block in _objects(content)))


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
