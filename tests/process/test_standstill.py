"""A worker that stands still gives nothing away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.standstill import COST_NANOUSD, STREAMS, run

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.slow, pytest.mark.timeout(240)]


def test_streams_of_a_worker_that_stood_still_are_charged_in_full(tmp_path: Path) -> None:
    """They are settled as abandoned meanwhile, and the difference is booked when they end."""
    whole, rows, _ = run(tmp_path, lease_s=3.0, pause_s=9.0)

    assert whole == [True] * STREAMS
    assert [row["cost_nanousd"] for row in rows] == [COST_NANOUSD] * STREAMS
    assert {row["outcome"] for row in rows} == {"completed"}
    assert "late_settlement_booked" in (tmp_path / "gateway.log").read_text()
