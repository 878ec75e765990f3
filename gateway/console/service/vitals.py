"""Reads the metrics of the gateway on this host, and what in them is worth an alert."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Metrics
from gateway.settings.urls import host_and_port

KEPT_S: Final = 2.0
MAX_BYTES: Final = 4 * 1024 * 1024
_TIMEOUT_S: Final = 1.0
_OUT: Final = 4
_MINUTE_S: Final = 60


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of one `capio serve`, summed over its processes."""

    in_flight: int = 0
    ledger_lag_s: float = 0.0
    ledger_waiting: int = 0
    spill_bytes: int = 0
    spill_oldest_s: float = 0.0
    is_degraded: bool = False
    usage_lost: int = 0
    usage_refused: int = 0
    ledger_parked: int = 0
    internal_errors: int = 0
    refused_for_load: int = 0
    out: tuple[str, ...] = ()
    """Deployments whose credential or credit was refused."""


class Alert(NamedTuple):
    """Something that needs an operator, and what to do about it; both in English."""

    problem: str
    advice: str


class VitalsReader:
    """
    Reads the metrics at most every 2 seconds, for any number of viewers.

    Args:
        metrics: Where they are served.
    """

    def __init__(self, metrics: Metrics) -> None:
        any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- not to listen
        host = any_address.get(metrics.host, metrics.host)
        self._url = f"http://{host_and_port(host, metrics.port)}/metrics"
        self._kept: Vitals | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self) -> Vitals | None:
        """Return the metrics; None: no gateway of this host serves them."""
        async with self._lock:
            if time.monotonic() - self._read_at > KEPT_S:
                text = await asyncio.to_thread(_fetch, self._url)
                self._kept = None if text is None else vitals_of(text)
                self._read_at = time.monotonic()
            return self._kept


def vitals_of(text: str) -> Vitals:
    """Return the vitals in Prometheus's text format."""
    sums: dict[str, float] = {}
    out: list[str] = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels = sample.name, sample.labels
            if name == "gateway_deployment_state" and sample.value >= _OUT:
                out.append(labels.get("deployment", ""))
            if name == "gateway_errors_total" and labels.get("kind") == "internal":
                name = "internal"
            sums[name] = sums.get(name, 0.0) + sample.value

    def count(name: str) -> int:
        return int(sums.get(name, 0))

    return Vitals(
        in_flight=count("gateway_in_flight_calls"),
        ledger_lag_s=sums.get("gateway_ledger_lag_seconds", 0.0),
        ledger_waiting=count("gateway_ledger_stream_length"),
        spill_bytes=count("gateway_spill_bytes"),
        spill_oldest_s=sums.get("gateway_spill_oldest_seconds", 0.0),
        is_degraded=sums.get("gateway_degraded", 0.0) > 0,
        usage_lost=count("gateway_usage_lost_total"),
        usage_refused=count("gateway_usage_refused_total"),
        ledger_parked=count("gateway_ledger_parked_total"),
        internal_errors=count("internal"),
        refused_for_load=count("gateway_overload_total"),
        out=tuple(sorted(set(out))),
    )


def alerts_of(vitals: Vitals, text: Callable[..., str]) -> list[Alert]:
    """Return what is worth an alert, the most urgent first, as `text` translates it."""
    found: list[tuple[bool, str, str]] = [
        (
            vitals.usage_lost > 0,
            text("%(count)s usage records are lost", count=vitals.usage_lost),
            text("Free space in server.data_dir and look for usage_lost in the log."),
        ),
        (
            vitals.usage_refused > 0 or vitals.ledger_parked > 0,
            text(
                "%(count)s usage records cannot be booked",
                count=vitals.usage_refused + vitals.ledger_parked,
            ),
            text("They are kept in the dead-letter stream; the log says why each was refused."),
        ),
        (
            vitals.is_degraded,
            text("Redis is unavailable"),
            text("Workers decide without it until it is back; start Redis."),
        ),
        (
            vitals.ledger_lag_s > _MINUTE_S,
            text("The ledger is %(seconds)s s behind", seconds=round(vitals.ledger_lag_s)),
            text("See whether SQL responds; run more ledger writers (capio ledger)."),
        ),
        (
            vitals.spill_oldest_s > _MINUTE_S and not vitals.is_degraded,
            text(
                "Usage has waited on disk for %(seconds)s s", seconds=round(vitals.spill_oldest_s)
            ),
            text("Redis is up, but does not take it: see whether its memory is full."),
        ),
        *(
            (
                True,
                text("%(deployment)s refuses the operator's credential or credit", deployment=name),
                text("Renew the key or top up at the provider; calls go elsewhere until then."),
            )
            for name in vitals.out
        ),
        (
            vitals.internal_errors > 0,
            text("%(count)s calls failed by a bug", count=vitals.internal_errors),
            text("Look for request_failed in the log; it has the traceback."),
        ),
    ]
    return [Alert(problem, advice) for holds, problem, advice in found if holds]


def _fetch(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 -- http
            content: bytes = response.read(MAX_BYTES)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return content.decode("utf-8", "replace")
