"""Which of the two builds runs: the pure one, or the one whose hot path is compiled."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

MODULE_THAT_DECIDES = "gateway.protocols.streams.meter"
"""A module of `[tool.capio.compiled]` in pyproject.toml; all are compiled, or none."""


def build_kind(module: str = MODULE_THAT_DECIDES) -> str:
    """Return `compiled` or `pure Python`, whichever is what an import of the module runs."""
    spec = find_spec(module)
    origin = spec.origin if spec is not None else None
    compiled = origin is not None and origin.endswith(tuple(EXTENSION_SUFFIXES))
    return "compiled" if compiled else "pure Python"
