"""
Translates the messages of an OpenAI request to Anthropic's system blocks and turns.

Theory. First every message becomes an entry, a role with blocks; entries without blocks are
dropped. Then adjacent entries of one role are merged, since Anthropic's turns alternate. A system
message within the conversation stays one only where Anthropic allows it, after a user's turn and
before an assistant's or at the end; elsewhere it becomes a reminder in the user's turn.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.message import Block, text_block
from gateway.protocols.anthropic_messages.message import Message as Turn
from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import replace_lone_surrogates
from gateway.protocols.openai_chat.request import Message, ToolCall
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_to_messages.call_ids import CallIds
from gateway.protocols.translate.chat_to_messages.parts import (
    content_blocks,
    is_replaced,
    text_blocks,
)
from gateway.protocols.translate.chat_to_messages.thinking_blocks import thinking_blocks
from gateway.protocols.translate.messages_to_chat.meaning import tool_input
from gateway.protocols.translate.messages_to_chat.messages import Dropped, ToolNames
from gateway.protocols.translate.tool_order import with_results_after_calls

_STRING: Final = msgspec.json.Decoder(str)
_LONGEST_ARGUMENTS: Final = 4 * 1024 * 1024
"""Bytes of JSON in a string; its values are not counted, and decoding blocks the event loop."""
_SYSTEM: Final = frozenset({"system", "developer"})
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})


class _Message(NamedTuple):
    role: Literal["user", "assistant", "system"]
    blocks: list[Block]


class Conversation(NamedTuple):
    """A request's messages in Anthropic's form."""

    system: list[Block]
    turns: list[Turn]

    def has_cache_control(self) -> bool:
        """Return whether any block has a cache marker."""
        return any(
            block.cache_control is not UNSET
            for blocks in (self.system, *(turn.content for turn in self.turns))
            for outer in blocks
            for block in (outer, *(outer.content if isinstance(outer.content, list) else ()))
        )

    def may_think(self) -> bool:
        """
        Return whether thinking may be enabled: the last turn with tool calls begins with thinking.

        Anthropic returns 400 if thinking is enabled and such a turn lacks its signed thinking.
        """
        for turn in reversed(self.turns):
            if any(block.type == "tool_use" for block in turn.content):
                return turn.content[0].type in _THINKING
        return True


class MessageTranslator:
    """
    Translates the messages of one request.

    Args:
        caps: The upstream's capabilities.
        names: Collects shortened tool names.
        dropped: Collects the names of dropped fields.
        carry_reasoning: False drops all reasoning of the history.
    """

    __slots__ = ("_caps", "_carry_reasoning", "_dropped", "_ids", "_names")

    def __init__(
        self,
        caps: Capabilities,
        names: ToolNames,
        dropped: Dropped,
        *,
        carry_reasoning: bool = True,
    ) -> None:
        self._caps = caps
        self._names = names
        self._dropped = dropped
        self._ids = CallIds()
        self._carry_reasoning = carry_reasoning

    def translate(self, messages: list[Message]) -> Conversation:
        """
        Return the conversation.

        Raises:
            GatewayError: UNSUPPORTED or BAD_REQUEST: a message cannot be translated, or there are
                only system messages.
        """
        messages = with_results_after_calls(messages)
        if messages and all(message.role in _SYSTEM for message in messages):
            # Anthropic requires a user's turn; the last instruction is the one to act on.
            messages = [*messages[:-1], msgspec.structs.replace(messages[-1], role="user")]
        leading = 0
        while leading < len(messages) and messages[leading].role in _SYSTEM:
            leading += 1
        system: list[Block] = []
        for index, message in enumerate(messages[:leading]):
            system += _marked(text_blocks(message.content, index), message.cache_control)
        entries = [
            entry
            for index, message in enumerate(messages[leading:], leading)
            if (entry := self._entry(message, index)).blocks
        ]
        turns = _placed(entries, keep_system=self._caps.midconv_system == "system")
        _trim_last(turns)
        if all(turn.role == "system" for turn in turns):
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                "messages: at least one non-system message is required",
                param="messages",
            )
        return Conversation(system, turns)

    def _entry(self, message: Message, index: int) -> _Message:
        entry = self._unmarked(message, index)
        return _Message(entry.role, _marked(entry.blocks, message.cache_control))

    def _unmarked(self, message: Message, index: int) -> _Message:
        match message.role:
            case "user":
                return _Message("user", self._content(message, index))
            case "assistant":
                return _Message("assistant", self._assistant(message, index))
            case "tool":
                return _Message("user", [self._tool_result(message, index)])
            case "system" | "developer":
                return _Message("system", text_blocks(message.content, index))
            case "function":
                raise _unsupported("role 'function'", index)
            case role:
                raise GatewayError(
                    ErrorKind.BAD_REQUEST,
                    f"messages.{index}.role: '{role}' is not a valid role",
                    param=f"messages.{index}.role",
                )

    def _content(self, message: Message, index: int) -> list[Block]:
        if isinstance(message.content, list):
            for part in message.content:
                if is_replaced(part, self._caps):
                    self._dropped.add(part.type)
        return content_blocks(message.content, index, self._caps)

    def _assistant(self, message: Message, index: int) -> list[Block]:
        if is_given(message.function_call):
            raise _unsupported("function_call", index)
        blocks = thinking_blocks(message) if self._carry_reasoning else []
        blocks += self._text_and_refusal(message)
        blocks += [self._tool_use(call, index) for call in message.tool_calls or ()]
        return blocks

    def _text_and_refusal(self, message: Message) -> list[Block]:
        """Return content and refusal; parts that only a model produces are dropped and reported."""
        if not isinstance(message.content, list):
            return text_blocks(message.content, 0) + text_blocks(message.refusal, 0)
        blocks: list[Block] = []
        for part in message.content:
            if part.type == "text":
                blocks += text_blocks([part], 0)
            elif part.type == "refusal":
                blocks += text_blocks(part.refusal, 0)
            else:
                self._dropped.add(part.type)
        return blocks + text_blocks(message.refusal, 0)

    def _tool_use(self, call: ToolCall, index: int) -> Block:
        if call.function is not None:
            name, given = call.function.name, _arguments(call.function.arguments)
        elif call.custom is not None:
            name = call.custom.name
            given = Raw(msgspec.json.encode({"input": call.custom.input or ""}))
        else:
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                f"messages.{index}.tool_calls: a call without function",
                param=f"messages.{index}.tool_calls",
            )
        block = Block(
            "tool_use", id=self._ids.of_call(call.id), name=self._names.shorten(name), input=given
        )
        return _marked([block], call.cache_control)[0]

    def _tool_result(self, message: Message, index: int) -> Block:
        if message.tool_call_id is None:
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                f"Missing required parameter: 'messages.{index}.tool_call_id'.",
                param=f"messages.{index}.tool_call_id",
            )
        content: str | list[Block] = ""
        if isinstance(message.content, str):
            content = message.content
        elif message.content is not None:
            content = self._content(message, index) or ""
        return Block(
            "tool_result", tool_use_id=self._ids.of_result(message.tool_call_id), content=content
        )


def _marked(blocks: list[Block], marker: Raw) -> list[Block]:
    """Return the blocks with a cache marker on the last one that may have it and has none."""
    if is_given(marker) and blocks:
        last = blocks[-1]
        if last.cache_control is UNSET and last.type not in _THINKING:
            last.cache_control = marker
    return blocks


def _arguments(arguments: Raw) -> Raw:
    """Return a call's input; `arguments` is a JSON string that holds JSON, or the object itself."""
    if not is_given(arguments):
        return tool_input("")
    raw = bytes(arguments)
    if len(raw) > _LONGEST_ARGUMENTS:
        message = f"tool_calls: arguments longer than {_LONGEST_ARGUMENTS:,} bytes"
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param="messages")
    text = _STRING.decode(raw) if raw.lstrip()[:1] == b'"' else raw.decode()
    return tool_input(replace_lone_surrogates(text.encode()).decode())


def _unsupported(what: str, index: int) -> GatewayError:
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        f"{what} is not supported by this model; use tools",
        param=f"messages.{index}",
    )


def _placed(entries: list[_Message], *, keep_system: bool) -> list[Turn]:
    turns: list[Turn] = []
    for position, (role, blocks) in enumerate(entries):
        last = turns[-1] if turns else None
        if role == "system":
            following = entries[position + 1].role if position + 1 < len(entries) else "assistant"
            after_user = last is not None and last.role == "user"
            if keep_system and after_user and following == "assistant":
                turns.append(Turn("system", blocks))
                continue
            role, blocks = "user", [_reminder(blocks)]  # noqa: PLW2901 - the entry, replaced
        if last is not None and last.role == role:
            last.content += blocks
        else:
            turns.append(Turn(role, blocks))
    for turn in turns:
        if turn.role == "user" and len(turn.content) > 1:
            # Anthropic requires results before text, whatever their order in the history.
            turn.content.sort(key=_is_no_result)
    return turns


def _reminder(blocks: list[Block]) -> Block:
    words = "\n\n".join(block.text for block in blocks if isinstance(block.text, str))
    reminder = text_block(f"<system-reminder>\n{words}\n</system-reminder>")
    reminder.cache_control = blocks[-1].cache_control
    return reminder


def _is_no_result(block: Block) -> bool:
    return block.type != "tool_result"


def _trim_last(turns: list[Turn]) -> None:
    """Remove trailing white space of a last assistant turn, which Anthropic rejects."""
    if not turns or turns[-1].role != "assistant":
        return
    last = turns[-1].content[-1]
    if last.type == "text" and isinstance(last.text, str):
        last.text = last.text.rstrip()
