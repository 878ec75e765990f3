"""Counts of whole requests, in one step."""

from __future__ import annotations

from gateway.tokens.calibration import Calibration
from gateway.tokens.count import UNCALIBRATED, Counter, Measure, measure_chat, measure_messages


def count_messages(body: bytes, counter: Counter, calibration: Calibration = UNCALIBRATED) -> int:
    """Return the estimated input tokens of a Messages request."""
    return _count(measure_messages(body), counter, calibration)


def count_chat(body: bytes, counter: Counter, calibration: Calibration = UNCALIBRATED) -> int:
    """Return the estimated input tokens of a chat request."""
    return _count(measure_chat(body), counter, calibration)


def _count(measure: Measure, counter: Counter, calibration: Calibration) -> int:
    return measure.total(sum(map(counter.count, measure.texts)), calibration)
