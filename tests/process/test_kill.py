"""The short form of the kill test, see `kill_test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.kill.run import run

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.slow, pytest.mark.timeout(240)]


def test_books_after_kills_at_random_agree_with_the_upstream(tmp_path: Path) -> None:
    """After any kill, each call is charged once by its outcome, and no hold is left."""
    findings = run(tmp_path, seconds=40.0, seed=7)

    print(findings.table())
    assert findings.differences == []
    assert findings.outcomes["completed"] > 100
    assert findings.kills["worker"] >= 2
    assert findings.kills["valkey"] >= 1
    assert sum(count for what, count in findings.kills.items() if "paused" in what) >= 2
