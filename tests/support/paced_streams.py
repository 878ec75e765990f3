"""Many clients with running streams at a model's pace, to see what becomes of them."""

from __future__ import annotations

import threading
from types import TracebackType

from tests.support.bodies import ANTHROPIC, OPENAI, request
from tests.support.raw_client import Answer, Connection, render
from tests.support.service import ANTHROPIC_MODEL, OPENAI_MODEL, Key, Service

MARKS = {OPENAI: b"data: [DONE]", ANTHROPIC: b"message_stop"}
KINDS = (
    (OPENAI, OPENAI_MODEL),
    (ANTHROPIC, ANTHROPIC_MODEL),
    (OPENAI, ANTHROPIC_MODEL),
    (ANTHROPIC, OPENAI_MODEL),
)


class Streams:
    """
    Streams that have begun; leave the block to have them all read to their ends.

    Args:
        service, key: Where and as whom to ask.
        count: How many, a quarter of each combination of dialect and wire.
        tokens: Of each; 50 are about a second.
    """

    def __init__(self, service: Service, key: Key, count: int, tokens: int) -> None:
        self._service = service
        self._key = key
        self._tokens = tokens
        self._begun = threading.Barrier(count + 1)
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(count)
        ]
        self.answers: dict[int, Answer] = {}
        self.failures: list[BaseException] = []

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        self._begun.wait(20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            thread.join(25)

    def is_whole(self, number: int) -> bool:
        """Return whether a stream ended as it should: with its mark, and cleanly."""
        answer = self.answers[number]
        return answer.complete and MARKS[KINDS[number % len(KINDS)][0]] in answer.body

    @property
    def whole(self) -> list[int]:
        """The streams that ended as they should."""
        return [number for number in sorted(self.answers) if self.is_whole(number)]

    def _run(self, number: int) -> None:
        path, model = KINDS[number % len(KINDS)]
        try:
            with Connection(self._service.port) as connection:
                body = request(path, model, f"/tokens {self._tokens}", stream=True)
                connection.send(render("POST", path, body, x_api_key=self._key.raw))
                status, headers = connection.read_head()
                first = connection.read_chunk()
                self._begun.wait(20)
                rest, complete = connection.read_rest(headers)
                self.answers[number] = Answer(status, headers, first + rest, complete)
        except BaseException as failure:
            self.failures.append(failure)
            self._begun.abort()
            raise
