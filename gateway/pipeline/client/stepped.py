"""An awaitable whose first step was taken by hand, to find out whether it has to wait at all."""

from __future__ import annotations

from collections.abc import Generator, Iterator


class Stepped:
    """Yields the future of the first step, then continues."""

    __slots__ = ("_first", "_rest")

    def __init__(self, first: object, rest: Iterator[object]) -> None:
        self._first = first
        self._rest = rest

    def __await__(self) -> Generator[object, None, None]:
        yield self._first
        yield from self._rest
