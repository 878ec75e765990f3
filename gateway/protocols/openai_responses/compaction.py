"""
Compaction: a summary that replaces a conversation.

A client requests it with a `compaction_trigger` at the end of its input, and then sends the
`compaction` item of the response instead of the summarized items. OpenAI encrypts the summary. Here
the requested model writes it, and the item contains it in the packed form of reasoning, since
nothing is stored.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.ids import SIGNATURE
from gateway.protocols.openai_responses.reasoning import OPENAI_ENCRYPTED, unpack_reasoning

TRIGGER: Final = "compaction_trigger"
COMPACTIONS: Final = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""The types that clients use for the item."""

INSTRUCTION: Final = (
    "Write a summary of this conversation that takes its place: the agent that continues sees "
    "nothing else of it. Do not call tools and do not continue the task. State what the user "
    "wants, all requirements and preferences, what was done and decided, which files, commands, "
    "names and values matter, what failed and why, what remains to be done, and the next step. "
    "Be exact and complete, without an introduction."
)
NO_SUMMARY: Final = "The model wrote no summary of the conversation; send the request again."
_ENCRYPTED: Final = (OPENAI_ENCRYPTED, SIGNATURE)
"""How content that only OpenAI can decrypt, and the gateway's packed content begin."""
_PREAMBLE: Final = (
    "The conversation so far was replaced by this summary of it. "
    "Continue from where it ends, and do not repeat what was done."
)


def summary_message(encrypted: str, where: str) -> str:
    """
    Return the text of the user's message that represents a compaction item.

    Raises:
        GatewayError: UNSUPPORTED: another service made the item.
    """
    packed = unpack_reasoning(encrypted)
    if packed is not None:
        return f"{_PREAMBLE}\n\n{packed.r}"
    if encrypted and not encrypted.startswith(_ENCRYPTED):
        return encrypted  # some clients and providers send plain text
    message = (
        f"{where}: only the provider that wrote this compaction can read it;"
        " send the conversation itself, or a summary as a message"
    )
    raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)
