"""Upstreams whose faults switch at random; `python -m tests.process.chaos.run` is the long form."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tests.process.chaos.run import run

SECONDS = float(os.environ.get("CAPIO_CHAOS_S", "30"))

pytestmark = [
    pytest.mark.process,
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 100),
]


def test_calls_survive_faults_that_switch_at_random(tmp_path: Path) -> None:
    """
    Every call gets a whole response, an error in its dialect or a stream that a fault broke.

    None outlives its clocks, at least 99.9 % of those with a healthy deployment succeed, what was
    charged is what the upstreams reported, and retries stay within their budget.
    """
    findings = run(tmp_path, seconds=SECONDS, seed=7)

    print(findings.table())
    assert findings.differences == []
    assert len(findings.failures) <= math.ceil(findings.with_healthy / 1000), findings.failures
    assert findings.with_healthy > SECONDS
    assert findings.attempts > findings.calls
    assert findings.retries <= findings.retry_bound
    assert len(findings.kinds) >= 5
