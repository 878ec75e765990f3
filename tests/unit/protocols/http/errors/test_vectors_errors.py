"""The shared vectors of translated upstream errors, in both directions."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import read_fault, translate_error
from tests.support import vectors

CLIENT_WIRE = {"a2o": Wire.ANTHROPIC, "o2a": Wire.OPENAI}
UPSTREAM_WIRE = {"a2o": Wire.OPENAI, "o2a": Wire.ANTHROPIC}


@pytest.mark.parametrize("vector", vectors.load("*", kind="error"))
def test_upstream_error_of_vector_is_translated(vector):
    """Status, kept headers and body are those of the vector."""
    given, expected = vector["input"], vector["expect"]
    headers = [(name.lower().encode(), text.encode()) for name, text in given["headers"].items()]

    fault = read_fault(
        UPSTREAM_WIRE[given["direction"]], given["status"], headers, given["body"].encode()
    )
    response = translate_error(fault, CLIENT_WIRE[given["direction"]], given["ctx"]["model"])

    assert response.status == expected["status"]
    assert {name.decode(): text.decode() for name, text in response.headers} == expected["headers"]
    assert json.loads(response.body) == expected["body"]
