"""What the clocks of a response decide, by value."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.model import Clocks
from gateway.errors import ErrorKind
from gateway.pipeline.response.clocks import Expire, Step, StreamClocks

LIMITS = Clocks(connect_s=1, first_byte_s=40, first_content_s=20, idle_s=30, total_s=100)
FIRST = Expire("first content", 20)
NEXT = Expire("next content", 30)
TOTAL = Expire("total", 100)
WRITTEN = {"last_content_at": 0.0, "committed": True}
KEPT_ALIVE = {**WRITTEN, "keepalive_s": 15.0}
FINISHED = {**WRITTEN, "finished": True}
ENDED = {**FINISHED, "ended": True}
READ_ON = {**WRITTEN, "read_on_until": 60.0}


def clocks(**state: Any) -> StreamClocks:
    """A stream whose request was sent at 0 and that has received nothing since."""
    return StreamClocks(
        **{
            "limits": LIMITS,
            "sent_at": 0.0,
            "opened_at": 0.0,
            "last_read_at": 0.0,
            "last_write_at": 0.0,
            **state,
        }
    )


@pytest.mark.parametrize(
    ("now", "state", "decision"),
    [
        (10.0, {}, Step.WAIT),
        (10.1, {}, Step.COMMIT),
        (12.0, {"opened_at": 5.0}, Step.WAIT),
        (10.1, {"committed": True}, Step.WAIT),
        (20.1, {}, FIRST),
        (20.1, {"committed": True}, FIRST),
        (20.1, {"committed": True, "resumed_at": 19.0}, FIRST),
        (30.0, WRITTEN, Step.WAIT),
        (30.1, WRITTEN, NEXT),
        (30.1, {**WRITTEN, "last_read_at": 30.0}, NEXT),
        (30.1, {**WRITTEN, "resumed_at": 10.0}, Step.WAIT),
        (40.1, {**WRITTEN, "resumed_at": 10.0}, NEXT),
        (15.0, KEPT_ALIVE, Step.WAIT),
        (15.1, KEPT_ALIVE, Step.PING),
        (15.1, {**KEPT_ALIVE, "last_write_at": 10.0}, Step.WAIT),
        (15.1, {**KEPT_ALIVE, "committed": False}, Step.COMMIT),
        (9.0, {"keepalive_s": 5.0}, Step.WAIT),
        (9.0, {"keepalive_s": 5.0, "committed": True}, Step.PING),
        (29.0, {**KEPT_ALIVE, "keepalive_s": 0.0}, Step.WAIT),
        (30.1, KEPT_ALIVE, NEXT),
        (100.0, {**WRITTEN, "last_content_at": 100.0}, Step.WAIT),
        (100.1, {**WRITTEN, "last_content_at": 100.0}, TOTAL),
    ],
)
def test_running_stream(now: float, state: dict[str, Any], decision: Step | Expire) -> None:
    """A stream is committed late, kept alive once committed, and ended by its limits."""
    assert clocks(**state).decide(now) == decision


@pytest.mark.parametrize(
    ("now", "state", "decision"),
    [
        (40.0, {}, Step.WAIT),
        (40.1, {}, Expire("first content", 40)),
        (30.1, WRITTEN, NEXT),
        (16.0, {**WRITTEN, "finished": True, "ended": True}, Step.WAIT),
        (100.1, {**WRITTEN, "last_content_at": 100.0}, TOTAL),
    ],
)
def test_document(now: float, state: dict[str, Any], decision: Step | Expire) -> None:
    """A document is not committed early, and only its framing ends it."""
    assert clocks(stream=False, **state).decide(now) == decision


@pytest.mark.parametrize(
    ("now", "state", "decision"),
    [
        (5.0, FINISHED, Step.WAIT),
        (5.1, FINISHED, Step.FINISH),
        (5.1, {**FINISHED, "last_read_at": 1.0}, Step.WAIT),
        (30.1, {**FINISHED, "last_read_at": 30.0}, Step.FINISH),
        (1.0, ENDED, Step.WAIT),
        (1.1, ENDED, Step.FINISH),
        (100.1, FINISHED, TOTAL),
    ],
)
def test_finished_stream(now: float, state: dict[str, Any], decision: Step | Expire) -> None:
    """After the finish reason a silent stream is ended as complete."""
    assert clocks(**state).decide(now) == decision


@pytest.mark.parametrize("state", [{}, WRITTEN, KEPT_ALIVE, FINISHED, ENDED])
def test_slow_client_stops_all_clocks_but_the_total(state: dict[str, Any]) -> None:
    """A paused upstream is not late; the total limit still counts."""
    assert clocks(**state, writing=True).decide(99.0) is Step.WAIT
    assert clocks(**state, writing=True).decide(100.1) == TOTAL


@pytest.mark.parametrize(
    ("now", "state", "decision"),
    [
        (60.0, {}, Step.WAIT),
        (60.1, {}, Step.STOP),
        (1.0, {"billable": True}, Step.WAIT),
        (1.1, {"billable": True}, Step.FINISH),
        (60.0, {"billable": True, "last_read_at": 59.5}, Step.WAIT),
        (60.1, {"billable": True, "last_read_at": 60.0}, Step.FINISH),
        (100.1, {"read_on_until": 120.0}, Step.WAIT),
    ],
)
def test_stream_read_on_for_its_usage(
    now: float, state: dict[str, Any], decision: Step | Expire
) -> None:
    """Without a client the upstream is read until its usage has come or the time is over."""
    assert clocks(**{**READ_ON, **state}).decide(now) == decision


def test_expired_limit_is_an_upstream_timeout() -> None:
    """The error names the limit for the log."""
    error = NEXT.error

    assert error.kind is ErrorKind.UPSTREAM_TIMEOUT
    assert error.detail == "next content: over 30 s"
