"""The documented field table is the code's, and the code does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.request import MessagesRequest
from gateway.protocols.translate.messages_to_chat.request import FIELDS
from tests.support.messages_to_chat import translate

TABLE = Path(__file__).parents[4] / "docs" / "translation-messages.md"
SILENT = [name for name, outcome in FIELDS.items() if outcome in ("drop", "ignore", "refuse")]


def test_documented_fields_are_those_of_the_code():
    """Every field, in the same order, with the same outcome."""
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| .*\|$|^\| `(\w+)` \| (\w+) \| \|$",
                      TABLE.read_text(), re.MULTILINE)  # fmt: skip

    documented = [(name or bare, outcome or kind) for name, outcome, bare, kind in rows]

    assert documented[: len(FIELDS)] == list(FIELDS.items())


def test_decoded_fields_are_those_of_the_table():
    """No field is read that is not documented; ignored ones are not read."""
    read = {name for name, outcome in FIELDS.items() if outcome != "ignore"}

    assert set(MessagesRequest.__struct_fields__) == read


@pytest.mark.parametrize("field", SILENT)
def test_field_without_counterpart_never_reaches_the_upstream(field):
    """It is listed, ignored or refused, as the table says."""
    try:
        answer = translate({field: {"some": "thing"}}, "openai")
    except GatewayError as error:
        assert FIELDS[field] == "refuse"
        assert error.param == field
        return

    assert field not in json.loads(answer.body)
    assert answer.dropped == ((field,) if FIELDS[field] == "drop" else ())
