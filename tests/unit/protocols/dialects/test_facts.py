"""The tables of facts: complete, and with sources."""

from __future__ import annotations

import re

import pytest

from gateway.protocols.dialects.facts import ERROR_FACTS, REQUEST_FACTS, USAGE_FACTS, Fact
from gateway.protocols.translate.capabilities import DIALECTS

TABLES = {"requests": REQUEST_FACTS, "usage": USAGE_FACTS, "errors": ERROR_FACTS}


@pytest.mark.parametrize("fact", [fact for table in TABLES.values() for fact in table])
def test_each_fact_has_a_source_a_date_and_a_dialect(fact: Fact) -> None:
    assert fact.dialect in DIALECTS
    assert fact.text.endswith(".")
    assert len(fact.source) > 5
    assert re.fullmatch(r"20\d\d-\d\d", fact.seen)


@pytest.mark.parametrize("table", TABLES)
def test_each_dialect_has_facts(table: str) -> None:
    """`generic` is no provider; both of Anthropic's write the same errors."""
    missing = set(DIALECTS) - {fact.dialect for fact in TABLES[table]}

    assert missing <= {"generic", "anthropic-legacy"}
