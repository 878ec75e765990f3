"""Whatever happens to a call: its upstream is closed, it is recorded once, its place is free."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from tests.support import pipeline_fakes as fakes
from tests.support.pipeline_bench import Bench

PIECES = {
    "content": fakes.openai_event("A"),
    "comment": fakes.COMMENT,
    "half": fakes.openai_event("B")[:20],
    "finish": fakes.OPENAI_FINISH,
    "usage": fakes.OPENAI_USAGE,
    "done": fakes.OPENAI_DONE,
    "error": fakes.OPENAI_ERROR,
}
MOMENTS = st.lists(
    st.sampled_from([*PIECES, "slow", "quick", "turn", "clock", "leave", "cancel"]), max_size=12
)
ENDS = st.sampled_from(["end", "fail", "leave", "cancel", "clock"])
ENDPOINTS = st.sampled_from([Endpoint.CHAT_COMPLETIONS, Endpoint.MESSAGES])


class Story:
    """One call with scripted upstreams, client and worker."""

    def __init__(self, endpoint: Endpoint, *, stream: bool, drains: bool) -> None:
        wires = [Wire.OPENAI]
        deployments = [
            fakes.a_deployment(fakes.a_provider("a", wires, drains=drains)),
            fakes.a_deployment(fakes.a_provider("b", wires, drains=drains)),
        ]
        head = None if stream else list(fakes.JSON)
        self.responses = [fakes.FakeUpstreamResponse(headers=head) for _ in deployments]
        if not stream:
            for response in self.responses:
                response._body = fakes.OPENAI_ANSWER
        self.bench = Bench(*self.responses, deployments=deployments)
        asked = fakes.ANTHROPIC_BODY if endpoint is Endpoint.MESSAGES else fakes.OPENAI_BODY
        self.client = fakes.FakeClient("/", fakes.asking(asked, stream=True) if stream else asked)
        self.call, self.task = self.bench.begin(self.client, endpoint)
        self._seconds = 0.0

    @property
    def response(self) -> fakes.FakeUpstreamResponse | None:
        """The upstream that is listened to now."""
        return next((each for each in self.responses if each.sink is not None), None)

    async def take(self, moment: str) -> None:
        """Let one thing happen."""
        response = self.response
        if moment in PIECES:
            if response is not None and not response.paused and response.sink is not None:
                response.sink.body_chunk(PIECES[moment])
        elif moment in ("slow", "quick"):
            await self._pace(slow=moment == "slow")
        elif moment == "clock":
            self._seconds += 100
            for watched, clocks in list(self.bench.watchdog._watched.items()):
                watched.check(self.call.started_at + self._seconds, clocks)
        elif moment == "leave":
            self.client.leave()
        elif moment == "cancel":
            self.task.cancel()
        elif moment == "end" and response is not None:
            await response.end()
        elif moment == "fail" and response is not None:
            await response.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
        await asyncio.sleep(0)

    async def _pace(self, *, slow: bool) -> None:
        self.client.slow = slow
        if not slow and self.client.waits:
            await self.client.take()

    async def finish(self, end: str) -> None:
        """Bring the call to its end."""
        await self._pace(slow=False)
        for _ in range(50):
            if self.task.done():
                break
            await self.take(end)
        if not self.task.done():
            self.client.leave()  # a drained stream is read on
            await self.take("fail")
        await asyncio.wait([self.task], timeout=5)
        assert self.task.done()


@given(moments=MOMENTS, end=ENDS, endpoint=ENDPOINTS, stream=st.booleans(), drains=st.booleans())
async def test_call_always_ends_once(
    moments: list[str], end: str, endpoint: Endpoint, stream: bool, drains: bool
) -> None:
    """One line, one event, no place held, nothing watched, every upstream closed."""
    story = Story(endpoint, stream=stream, drains=drains)

    await asyncio.sleep(0)
    for moment in moments:
        await story.take(moment)
    await story.finish(end)

    story.bench.assert_recorded_once()
    asked = story.responses[: len(story.bench.transport.requests)]
    assert all(response.closed for response in asked)
    assert story.bench.watchdog._watched == {}
    assert story.call.ended_at is not None
    assert story.call.cost_nanousd >= 0
    told = {"finish", "done"} & set(moments)
    if story.client.ended and stream and story.client.status == 200 and not told:
        assert not story.client.body.endswith(PIECES["half"])
    assert story.task.cancelled() or story.task.exception() is None
