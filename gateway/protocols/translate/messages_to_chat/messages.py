"""
Translates the messages of an Anthropic request to those of an OpenAI request.

Messages of the same role are not merged. A user message may become several: its tool results, and
one user message with the rest. Results are placed directly after their calls, wherever the client
put them (`tool_order`); everything else keeps its order.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.request import Block, Message
from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.ids import short_name, thought_signature_in, to_openai_id
from gateway.protocols.openai_chat.message import (
    ChatMessage,
    FunctionCall,
    Part,
    ReasoningDetail,
    ToolCall,
    joined_parts,
    text_part,
)
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.content import (
    NO_FILES,
    NO_IMAGES,
    block_parts,
    contained_text,
    search_result_text,
    system_parts,
)
from gateway.protocols.translate.messages_to_chat.meaning import tool_input
from gateway.protocols.translate.tool_order import with_results_after_calls

BILLING: Final = "x-anthropic-billing-header:"
"""Start of a system block that changes with every request, which would defeat prompt caches."""

PREFILL_REFUSED: Final = (
    "This model does not support assistant message prefill. "
    "The conversation must end with a user message."
)
"""Anthropic's message, which clients recognise."""

NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""Gemini's documented value for calls without their thought signature."""

_ATTACHED: Final = "[attachment in the next message]"
_RAW_BLOCKS: Final = msgspec.json.Decoder(str | list[Raw])
_BLOCK: Final = msgspec.json.Decoder(Block)
_STRING: Final = msgspec.json.Decoder(str)
_TEXT_BLOCKS: Final = frozenset({"text", "compaction"})
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})


class Dropped:
    """The names of dropped fields, in order of occurrence, each once."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        """Add a field."""
        self._names[name] = None

    def names(self) -> tuple[str, ...]:
        """Return all fields."""
        return tuple(self._names)


class ToolNames:
    """Shortens tool names to valid ones, and keeps the originals."""

    __slots__ = ("originals",)

    def __init__(self) -> None:
        self.originals: dict[str, str] = {}
        """Shortened name -> the client's, only for names that were changed."""

    def shorten(self, name: str) -> str:
        """Return a valid name for `name`, and keep the original if it differs."""
        short = short_name(name)
        if short != name:
            self.originals[short] = name
        return short


class MessageTranslator:
    """
    Builds the upstream's messages of one request.

    Args:
        caps: The upstream's capabilities.
        names: Collects shortened tool names.
        dropped: Collects the names of dropped fields.
    """

    __slots__ = ("_caps", "_dropped", "_names", "history_ids", "messages")

    def __init__(self, caps: Capabilities, names: ToolNames, dropped: Dropped) -> None:
        self._caps = caps
        self._names = names
        self._dropped = dropped
        self.messages: list[ChatMessage] = []
        self.history_ids: set[str] = set()
        """Tool-call ids as the client sent them."""

    def add_system(self, system: str | list[Block] | None, paragraph: str | None) -> None:
        """
        Add the leading system message, if there is any text.

        Args:
            system: The request's field; the billing line is removed.
            paragraph: A last paragraph that the gateway adds.

        Raises:
            GatewayError: UNSUPPORTED: a block is not text.
        """
        parts = self._system_parts(system)
        if paragraph:
            parts.append(text_part(paragraph))
        if parts:
            self.messages.append(ChatMessage("system", joined_parts(parts)))

    def add(self, index: int, message: Message) -> None:
        """
        Add one message of the request; one without content is dropped.

        Raises:
            GatewayError: UNSUPPORTED or BAD_REQUEST; the message names the field.
        """
        match message.role:
            case "user":
                self._add_user(message.content, f"messages.{index}.content")
            case "assistant":
                self._add_assistant(message.content, f"messages.{index}.content")
            case "system":
                self._add_mid_system(message.content)
            case other:
                raise GatewayError(
                    ErrorKind.BAD_REQUEST,
                    f'messages: Unexpected role "{other}"',
                    param=f"messages.{index}.role",
                )

    def order_results(self) -> None:
        """Place tool results directly after their calls; call it after all messages were added."""
        self.messages = with_results_after_calls(self.messages)

    def continues_assistant(self) -> bool:
        """Return whether the last message is an assistant's text for the model to continue."""
        last = self.messages[-1] if self.messages else None
        return last is not None and last.role == "assistant" and not last.tool_calls

    def _system_parts(self, system: str | list[Block] | None) -> list[Part]:
        if isinstance(system, str):
            if system.startswith(BILLING):
                system = system.partition("\n")[2]
            return [text_part(system)] if system else []
        for block in system or []:
            if block.type != "text":
                raise GatewayError(
                    ErrorKind.UNSUPPORTED,
                    f"system: block type '{block.type}' is not supported by this model",
                    param="system",
                )
        kept = [block for block in system or [] if not (block.text or "").startswith(BILLING)]
        return system_parts(kept, self._caps)

    def _add_mid_system(self, content: str | list[Block]) -> None:
        if isinstance(content, str):
            parts = [text_part(content)] if content else []
        else:
            texts = [block for block in content if block.type == "text"]
            if len(texts) < len(content):
                self._dropped.add("system_blocks")
            parts = system_parts(texts, self._caps)
        if not parts:
            return
        if self._caps.midconv_system == "system":
            self.messages.append(ChatMessage("system", joined_parts(parts)))
            return
        text = "\n\n".join(part.text for part in parts if isinstance(part.text, str))
        reminder = f"<system-reminder>\n{text}\n</system-reminder>"
        self.messages.append(ChatMessage("user", reminder))

    def _add_user(self, content: str | list[Block], where: str) -> None:
        if isinstance(content, str):
            self.messages.append(ChatMessage("user", content))
            return
        parts: list[Part] = []
        for block in content:
            if block.type == "tool_result":
                self._add_tool_result(block, parts, where)
            else:
                parts.extend(self._parts(block, where))
        if parts:
            self.messages.append(ChatMessage("user", joined_parts(parts)))

    def _parts(self, block: Block, where: str) -> list[Part]:
        parts = block_parts(block, self._caps, where)
        if any(part.text in (NO_IMAGES, NO_FILES) for part in parts):
            self._dropped.add(block.type)
        return parts

    def _add_tool_result(self, block: Block, attachments: list[Part], where: str) -> None:
        if block.tool_use_id is None:
            raise GatewayError(
                ErrorKind.BAD_REQUEST, f"{where}: tool_use_id: Field required", param=where
            )
        call_id = self._call_id(block.tool_use_id)
        text = self._result_text(block.content, call_id, attachments, where)
        if block.is_error and not text.lower().startswith(("error", "<tool_use_error>")):
            text = f"Error: {text}"
        self.messages.append(ChatMessage("tool", text, tool_call_id=call_id))

    def _result_text(self, content: Raw, call_id: str, attachments: list[Part], where: str) -> str:
        if not is_given(content):
            return ""
        value = decode_request(bytes(content), _RAW_BLOCKS)
        if isinstance(value, str):
            return value
        lines: list[str] = []
        for raw in value:
            block = decode_request(bytes(raw), _BLOCK)
            own_text = _inner_text(block, raw)
            if own_text is not None:
                lines.append(own_text)
                continue
            for part in self._parts(block, where):
                if isinstance(part.text, str):
                    lines.append(part.text)
                    continue
                lines.append(_ATTACHED)
                attachments.append(text_part(f"Attachment returned by tool call {call_id}:"))
                attachments.append(part)
        return "\n".join(lines)

    def _add_assistant(self, content: str | list[Block], where: str) -> None:
        if isinstance(content, str):
            if content:
                self.messages.append(ChatMessage("assistant", content))
            return
        texts: list[str] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        signature: str | None = None
        for block in content:
            if block.type in _TEXT_BLOCKS:
                texts.append(_block_text(block))
            elif block.type in _THINKING:
                reasoning.append(block.thinking or "")
                signature = thought_signature_in(block.signature or "") or signature
            elif block.type == "tool_use":
                calls.append(self._tool_call(block, signature, first=not calls, where=where))
                signature = None
            else:
                self._dropped.add("server_tool_blocks")
        text = "".join(texts)
        if text or calls:
            message = ChatMessage("assistant", text or None)
            if calls:
                message.tool_calls = calls
            self._carry_reasoning(message, "\n".join(filter(None, reasoning)))
            self.messages.append(message)

    def _tool_call(
        self, block: Block, signature: str | None, *, first: bool, where: str
    ) -> ToolCall:
        if block.id is None or block.name is None:
            missing = "id" if block.id is None else "name"
            raise GatewayError(
                ErrorKind.BAD_REQUEST, f"{where}: {missing}: Field required", param=where
            )
        self.history_ids.add(block.id)
        call = ToolCall(
            id=self._call_id(block.id),
            type="function",
            function=FunctionCall(self._names.shorten(block.name), _arguments(block.input)),
        )
        if self._caps.thought_signatures and (first or signature):
            call.extra_content = {"google": {"thought_signature": signature or NO_SIGNATURE}}
        return call

    def _call_id(self, tool_id: str) -> str:
        caps = self._caps
        return to_openai_id(tool_id, caps.tool_id_max, exact=caps.tool_id_exact)

    def _carry_reasoning(self, message: ChatMessage, reasoning: str) -> None:
        """Add a message's reasoning in the dialect's member; some reject calls without it."""
        if not reasoning and message.tool_calls and self._caps.reasoning_fill:
            reasoning = self._caps.reasoning_fill
        if not reasoning:
            return
        match self._caps.reasoning_in:
            case "reasoning_content":
                message.reasoning_content = reasoning
            case "reasoning":
                message.reasoning = reasoning
            case "reasoning_details":
                message.reasoning_details = [ReasoningDetail("reasoning.text", reasoning)]
            case None:
                pass  # The dialect has no member for reasoning of the history.


def _arguments(given: Raw) -> str:
    """Return a call's input as a compact JSON object, with numbers and strings unchanged."""
    if not is_given(given):
        return "{}"
    compact = msgspec.json.format(bytes(given), indent=-1)
    if compact[:1] == b"{":
        return compact.decode()
    # Clients that resume an interrupted stream send the object as a string.
    text = decode_request(compact, _STRING) if compact[:1] == b'"' else compact.decode()
    return bytes(tool_input(text)).decode()


def _block_text(block: Block) -> str:
    return (block.text or "") if block.type == "text" else contained_text(block.content)


def _inner_text(block: Block, raw: Raw) -> str | None:
    """Return the text of a block inside a tool result; None if it becomes parts."""
    match block.type:
        case "text":
            return block.text or ""
        case "search_result":
            return search_result_text(block)
        case "tool_reference":
            return f"Loaded tool: {block.tool_name or ''}"
        case "image" | "document":
            return None
        case _:
            return msgspec.json.format(bytes(raw), indent=-1).decode()
