"""What a worker counts of its calls for consoles: by model and deployment, over a minute."""

from __future__ import annotations

import msgspec

from gateway.core.model import Endpoint, Usage, Wire
from gateway.core.routing.live import EVERY_S, MAX_LINES, WINDOW_S, LiveLine
from gateway.pipeline.call import Call
from gateway.pipeline.live import LiveCounts
from gateway.pipeline.running import RunningCalls
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_model,
    a_provider,
    asking,
    openai_event,
)


def a_call(
    started_at: float, *, model: str | None = "m", outcome: str = "completed", tokens: int = 0
) -> Call:
    """A call at the only deployment; without a model it was refused early."""
    call = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, started_at)
    if model is not None:
        deployment = a_deployment(a_provider())
        call.model = msgspec.structs.replace(a_model(deployment), name=model)
        call.begin_attempt(deployment, Wire.OPENAI, started_at).usage = Usage(output=tokens)
    call.outcome = outcome
    return call


def test_running_and_ended_calls_are_counted_once() -> None:
    """A call counts as started in the interval in which it started, wherever it is found."""
    counts = LiveCounts(100.0)
    old, new = a_call(90.0), a_call(101.0)
    counts.ended(a_call(100.5, tokens=7))
    counts.ended(a_call(95.0, outcome="failed"))
    first = counts.lines([old, new], 102.0)
    counts.ended(new)
    second = counts.lines([old], 104.0)

    assert first == (
        LiveLine(
            model="m", deployment="up/up-m", running=2, oldest_s=12,
            started=2, ended=2, failed=1, tokens=7,
        ),
    )  # fmt: skip
    assert second == (
        LiveLine(
            model="m", deployment="up/up-m", running=1, oldest_s=14,
            started=2, ended=3, failed=1, tokens=7,
        ),
    )  # fmt: skip


def test_counts_are_forgotten_after_the_window() -> None:
    """Memory is bounded by the models of a minute."""
    counts = LiveCounts(0.0)
    counts.ended(a_call(0.0, tokens=7))
    intervals = round(WINDOW_S / EVERY_S)
    found = [counts.lines((), n * EVERY_S) for n in range(intervals + 1)]

    assert [len(lines) for lines in found] == [1] * intervals + [0]


def test_calls_without_a_model_have_no_line_and_lines_are_bounded() -> None:
    """The busiest lines stay."""
    counts = LiveCounts(0.0)
    counts.ended(a_call(0.0, model=None))
    running = [a_call(0.0, model=f"m{n}") for n in range(MAX_LINES + 1)]
    found = counts.lines([a_call(0.0, model=None), *running, a_call(0.0, model="m7")], 1.0)

    assert len(found) == MAX_LINES
    assert (found[0].model, found[0].running) == ("m7", 2)


async def test_stream_is_running_until_it_is_recorded() -> None:
    """What the pipeline does with a call is what the counts say."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    assert isinstance(bench.running, RunningCalls)
    client = FakeClient("/v1/chat/completions", asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)
    await response.push(openai_event("A"))
    (during,) = bench.running.live()
    await response.end(OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
    await task
    (after,) = bench.running.live()

    assert (during.running, during.started, during.ended) == (1, 1, 0)
    assert (after.running, after.started, after.ended, after.failed) == (0, 1, 1, 0)
    assert after.tokens == 4
