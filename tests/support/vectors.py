"""
Wire vectors: one JSON file per case, selected by file name and by kind.

They stand in `tests/golden/wire`, whose README describes the format. `CAPIO_VECTORS` names a
further folder; the wording of error messages is compared only for the project's own vectors.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).parents[1] / "golden" / "wire"
FURTHER = os.environ.get("CAPIO_VECTORS")


class AnyText:
    """Equals every string: the wording of an error message that is not the project's own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str | AnyText)

    def __hash__(self) -> int:
        return hash(AnyText)


def load(area_glob: str, kind: str | None = None, direction: str | None = None) -> list[Any]:
    """
    Return the vectors whose file name matches `<area_glob>.json` as parameters named by their id.

    Args:
        area_glob: As `error-o2a-*`, or `*` for all.
        kind: Only vectors of this kind.
        direction: Only vectors whose `input.direction` is this.
    """
    params = []
    for path in _files(f"{area_glob}.json"):
        vector = json.loads(path.read_bytes())
        if path.parent != OWN:
            vector["expect"] = _without_wording(vector["expect"])
        if kind is not None and vector["kind"] != kind:
            continue
        if direction is not None and vector["input"].get("direction") != direction:
            continue
        params.append(pytest.param(vector, id=path.stem))
    return params


def _files(pattern: str) -> list[Path]:
    found = sorted(OWN.glob(pattern))
    if FURTHER is not None:
        folder = Path(FURTHER)
        if not folder.is_dir():
            raise FileNotFoundError(f"CAPIO_VECTORS names no folder: {folder}")
        own = {path.name: path.read_bytes() for path in found}
        found += sorted(
            path for path in folder.glob(pattern) if own.get(path.name) != path.read_bytes()
        )
    return found


def _without_wording(expected: Any) -> Any:
    """Return `expected` with the message of every error object replaced by `AnyText`."""
    if isinstance(expected, list):
        return [_without_wording(each) for each in expected]
    if not isinstance(expected, dict):
        return expected
    changed = {name: _without_wording(value) for name, value in expected.items()}
    error = changed.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        changed["error"] = {**error, "message": AnyText()}
    return changed


def network_chunks(chunks: list[Any]) -> list[bytes]:
    """Return the network chunks of a stream vector as bytes."""
    return [
        chunk.encode() if isinstance(chunk, str) else base64.b64decode(chunk["b64"])
        for chunk in chunks
    ]


def matches(expected: Any, actual: Any) -> bool:
    """Compare decoded JSON; `<<int>>` stands for any integer, `<<gateway>>` for any string."""
    if isinstance(expected, AnyText):
        return isinstance(actual, str)
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
