"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.errors import GatewayError
from tests.fuzz.shapes import Shapes


class Target(NamedTuple):
    """One decoder with its input and what must hold."""

    name: str
    run: Callable[[bytes], None]
    """Decodes, and asserts what must hold. Whatever it raises beside `allowed` is a finding."""
    seeds: Sequence[bytes]
    shapes: Shapes
    decode: Callable[[bytes], object] | None = None
    """Only decodes, for the time against size; None: what `run` asserts costs little."""
    allowed: tuple[type[Exception], ...] = (GatewayError,)
    """How the decoder says that it refuses an input."""
