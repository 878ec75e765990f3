"""What the metrics say, and what of it is worth an alert."""

from __future__ import annotations

import pytest

from gateway.console.service.vitals import Vitals, VitalsReader, alerts_of, vitals_of
from gateway.settings import Metrics

TEXT = """\
# TYPE gateway_in_flight_calls gauge
gateway_in_flight_calls{pid="1"} 3.0
gateway_in_flight_calls{pid="2"} 4.0
# TYPE gateway_ledger_lag_seconds gauge
gateway_ledger_lag_seconds 75.5
# TYPE gateway_ledger_stream_length gauge
gateway_ledger_stream_length 12.0
# TYPE gateway_errors_total counter
gateway_errors_total{kind="internal"} 2.0
gateway_errors_total{kind="bad_request"} 9.0
# TYPE gateway_deployment_state gauge
gateway_deployment_state{deployment="p/m"} 4.0
gateway_deployment_state{deployment="q/m"} 3.0
"""


def text(message: str, **values: object) -> str:
    return message % values if values else message


def test_vitals_are_the_sums_of_all_processes() -> None:
    """Also of metrics with labels; absent ones are 0."""
    assert vitals_of(TEXT) == Vitals(
        in_flight=7, ledger_lag_s=75.5, ledger_waiting=12, internal_errors=2, out=("p/m",)
    )


@pytest.mark.parametrize(
    ("vitals", "problem"),
    [
        (Vitals(usage_lost=2), "2 usage records are lost"),
        (Vitals(usage_refused=1, ledger_parked=2), "3 usage records cannot be booked"),
        (Vitals(is_degraded=True, spill_oldest_s=99), "Redis is unavailable"),
        (Vitals(ledger_lag_s=61.2), "The ledger is 61 s behind"),
        (Vitals(spill_oldest_s=99), "Usage has waited on disk for 99 s"),
        (Vitals(out=("p/m",)), "p/m refuses the operator's credential or credit"),
        (Vitals(internal_errors=4), "4 calls failed by a bug"),
    ],
)
def test_each_alert_has_an_advice(vitals: Vitals, problem: str) -> None:
    """One for each of the metrics that docs/metrics.md names."""
    (alert,) = alerts_of(vitals, text)

    assert alert.problem == problem
    assert alert.advice.endswith(".")


def test_usual_figures_are_no_alert() -> None:
    """A short lag is normal."""
    assert alerts_of(Vitals(in_flight=50, ledger_lag_s=3, spill_bytes=10), text) == []


async def test_gateway_that_is_not_on_this_host_has_no_vitals() -> None:
    """Nothing listens on port 1."""
    assert await VitalsReader(Metrics(port=1)).read() is None
