"""A listener of a subscription that records what it is called with."""

from __future__ import annotations


class Diary:
    """Records the calls of a subscription."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.proofs: list[float] = []

    def subscribed(self, since: float) -> None:
        self.entries.append("subscribed")
        self.proofs.append(since)

    def proven(self, since: float) -> None:
        self.proofs.append(since)

    def received(self, message: bytes) -> None:
        self.entries.append(message.decode())

    def lost(self) -> None:
        self.entries.append("lost")
