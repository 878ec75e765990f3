"""
The shared wire vectors: one JSON file per case, selected by file name and by kind.

Their folder is `CAPIO_VECTORS`; the format is described in the folder's README.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(
    os.environ.get("CAPIO_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors")
)


def load(area_glob: str, kind: str | None = None, direction: str | None = None) -> list[Any]:
    """
    Return the vectors whose file name matches `<area_glob>.json` as parameters named by their id.

    Args:
        area_glob: As `error-o2a-*`, or `*` for all.
        kind: Only vectors of this kind.
        direction: Only vectors whose `input.direction` is this.
    """
    if not FOLDER.is_dir():
        reason = f"no vectors at {FOLDER} (set CAPIO_VECTORS)"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="no-vectors")]
    params = []
    for path in sorted(FOLDER.glob(f"{area_glob}.json")):
        vector = json.loads(path.read_bytes())
        if kind is not None and vector["kind"] != kind:
            continue
        if direction is not None and vector["input"].get("direction") != direction:
            continue
        params.append(pytest.param(vector, id=path.stem))
    return params


def network_chunks(chunks: list[Any]) -> list[bytes]:
    """Return the network chunks of a stream vector as bytes."""
    return [
        chunk.encode() if isinstance(chunk, str) else base64.b64decode(chunk["b64"])
        for chunk in chunks
    ]


def matches(expected: Any, actual: Any) -> bool:
    """Compare decoded JSON; `<<int>>` stands for any integer, `<<gateway>>` for any string."""
    if expected == "<<int>>":
        return isinstance(actual, int) and not isinstance(actual, bool)
    if expected == "<<gateway>>":
        return isinstance(actual, str)
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and expected.keys() == actual.keys()
            and all(matches(value, actual[name]) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(matches(*pair) for pair in zip(expected, actual, strict=True))
        )
    return type(expected) is type(actual) and expected == actual
