"""
Writes Prometheus' rules and Grafana's dashboard from the table of metrics: `make docs`.

The dashboard has one panel for each metric of `gateway/telemetry/metrics.py`, in the order and the
groups of that file, with a query that suits its kind. The alerts are listed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.telemetry.metrics import Metrics

FILES = Path(__file__).resolve().parent / "helm" / "capio" / "files"
NOTICE = "# Written by `make docs` from deploy/monitoring.py; edit that.\n"


class Alert(NamedTuple):
    """One alerting rule; `summary` says what happened, `action` what to do."""

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    action: str


def _any(series: str) -> str:
    """Return an expression for a counter that has grown, or appeared, within 15 minutes."""
    # A counter appears with its first event, and `increase` does not see the step from nothing.
    return f"increase({series}[15m]) > 0 or ({series} > 0 unless {series} offset 15m)"


FAILED = 'outcome=~"failed|insured",status!~"4.."'

OVERVIEW = (
    ("Calls per second", "sum(rate(gateway_requests_total[$__rate_interval]))", "reqps"),
    (
        "Failed calls",
        f"sum(rate(gateway_requests_total{{{FAILED}}}[$__rate_interval]))"
        " / sum(rate(gateway_requests_total[$__rate_interval]))",
        "percentunit",
    ),
    ("Running calls", "sum(gateway_in_flight_calls)", "none"),
    ("Age of unbooked usage", "max(gateway_ledger_lag_seconds)", "s"),
)

ALERTS = (
    Alert(
        "CapioUsageLost",
        _any("gateway_usage_lost_total"),
        "0m",
        "critical",
        "Usage was accepted neither by Redis nor by the local disk: calls are not charged.",
        "Check Redis, and space and rights of server.data_dir.",
    ),
    Alert(
        "CapioUsageRefused",
        _any("gateway_usage_refused_total"),
        "0m",
        "critical",
        "Redis rejected usage events as invalid.",
        "Read the dead-letter stream and report a bug.",
    ),
    Alert(
        "CapioLedgerParked",
        _any("gateway_ledger_parked_total"),
        "0m",
        "critical",
        "The ledger writer set entries aside that cannot be stored.",
        "Read ledger_parked in the log and the dead-letter stream.",
    ),
    Alert(
        "CapioLedgerLate",
        "max by (namespace, job) (gateway_ledger_lag_seconds) > 60",
        "2m",
        "warning",
        "The oldest usage event has not been in SQL for {{ $value | humanizeDuration }}.",
        "Check PostgreSQL and the ledger writers; run more of them if it grows.",
    ),
    Alert(
        "CapioLedgerFailing",
        "gateway_ledger_failing > 0",
        "3m",
        "critical",
        "A ledger writer cannot read Redis or write to SQL.",
        "Read ledger_write_deferred in its log; `capio doctor` names the cause.",
    ),
    Alert(
        "CapioUsageSpilled",
        "gateway_spill_oldest_seconds > 60",
        "5m",
        "warning",
        "Usage events wait on local disk for {{ $value | humanizeDuration }}.",
        "Check Redis; while it is available, read spill_segment_replay_failed in the log.",
    ),
    Alert(
        "CapioWithoutRedis",
        "gateway_degraded > 0 or gateway_redis_unavailable > 0",
        "1m",
        "critical",
        "Workers have no connection to Redis.",
        "Check Redis and the network to it; `capio doctor` names the cause.",
    ),
    Alert(
        "CapioCredentialRefused",
        "gateway_deployment_state == 4",
        "0m",
        "critical",
        "The provider of {{ $labels.deployment }} refused the credential or the credit.",
        "Renew the credential or pay, then reload the configuration.",
    ),
    Alert(
        "CapioDeploymentDown",
        "gateway_deployment_state == 3",
        "5m",
        "warning",
        "{{ $labels.deployment }} has failed for 5 minutes.",
        "See gateway_upstream_errors_total for its kinds of errors.",
    ),
    Alert(
        "CapioCallsFail",
        f"sum by (namespace, job) (rate(gateway_requests_total{{{FAILED}}}[5m]))"
        " / sum by (namespace, job) (rate(gateway_requests_total[5m])) > 0.05",
        "5m",
        "critical",
        "{{ $value | humanizePercentage }} of the calls fail.",
        "See gateway_errors_total for their kinds.",
    ),
    Alert(
        "CapioInternalErrors",
        _any('gateway_errors_total{error_kind="internal"}'),
        "0m",
        "warning",
        "Calls ended with an internal error.",
        "Read the log and report a bug.",
    ),
    Alert(
        "CapioOutOfCpu",
        "histogram_quantile(0.99, sum by (le, namespace, job)"
        " (rate(gateway_loop_lag_seconds_bucket[5m]))) > 0.05",
        "10m",
        "warning",
        "Event loops run {{ $value | humanizeDuration }} late: workers are out of CPU.",
        "Add workers or pods.",
    ),
    Alert(
        "CapioOverload",
        "sum by (namespace, job, bound) (rate(gateway_overload_total[5m])) > 0",
        "5m",
        "warning",
        "Workers refuse calls for {{ $labels.bound }}.",
        "Add workers or pods, or raise the bound.",
    ),
    Alert(
        "CapioConfigurationRefused",
        _any('gateway_config_reloads_total{result=~"rejected|not_applied"}'),
        "0m",
        "warning",
        "A new configuration was not applied ({{ $labels.result }}).",
        "Run `capio check-config`; the log names the errors.",
    ),
    Alert(
        "CapioCatalogueEntriesRejected",
        "gateway_catalogue_rejected_entries > 0",
        "5m",
        "warning",
        "{{ $value }} providers and models in SQL are not served.",
        "The page Catalogue and `capio doctor` name their problems.",
    ),
)


def declared() -> list[MetricWrapperBase]:
    """Return all metrics, in the order of their declaration."""
    values = vars(Metrics(CollectorRegistry())).values()
    return [value for value in values if isinstance(value, MetricWrapperBase)]


def name_of(metric: MetricWrapperBase) -> str:
    """Return the name under which a metric is exposed."""
    return f"{metric._name}_total" if metric._type == "counter" else str(metric._name)


def rules() -> str:
    """Return the file of alerting rules."""
    group = {
        "name": "capio",
        "rules": [
            {
                "alert": alert.name,
                "expr": alert.expr,
                "for": alert.wait,
                "labels": {"severity": alert.severity},
                "annotations": {"summary": alert.summary, "description": alert.action},
            }
            for alert in ALERTS
        ],
    }
    return NOTICE + yaml.safe_dump({"groups": [group]}, sort_keys=False, width=100)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    board = {
        "uid": "capio",
        "title": "Capio",
        "description": "Written by `make docs` from the gateway's table of metrics.",
        "tags": ["capio"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_source_variable()]},
        "panels": list(_panels()),
    }
    return json.dumps(board, indent=1) + "\n"


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}


def _panels() -> Iterator[dict[str, Any]]:
    for index, (title, expr, unit) in enumerate(OVERVIEW):
        position = {"x": 6 * index, "y": 0, "w": 6, "h": 4}
        yield _panel(index + 1, "stat", title, "", [(expr, "")], unit, position)
    first = len(OVERVIEW) + 1
    for index, metric in enumerate(declared()):
        place = {"x": 8 * (index % 3), "y": 4 + 8 * (index // 3), "w": 8, "h": 8}
        queries, unit = _queries(metric)
        title = name_of(metric).removeprefix("gateway_").removesuffix("_total").replace("_", " ")
        title = title[0].upper() + title[1:]
        about = str(metric._documentation)
        yield _panel(first + index, "timeseries", title, about, queries, unit, place)


def _queries(metric: MetricWrapperBase) -> tuple[list[tuple[str, str]], str]:
    """Return expressions with their legends, and the unit."""
    name, labels = name_of(metric), list(metric._labelnames)
    by = f" by ({', '.join(labels)})" if labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    if metric._type == "histogram":
        per = ", ".join(["le", *labels])
        rate = f"sum by ({per}) (rate({name}_bucket[$__rate_interval]))"
        return [
            (
                f"histogram_quantile({quantile}, {rate})",
                f"p{round(quantile * 100)} {legend}".strip(),
            )
            for quantile in (0.5, 0.95)
        ], "s"
    if metric._type == "counter":
        unit = "currencyUSD" if "dollars" in name else "ops"
        return [(f"sum{by} (rate({name}[$__rate_interval]))", legend)], unit
    if name.endswith("_timestamp_seconds"):
        return [(f"time() - max{by} ({name})", legend)], "s"
    unit = "s" if name.endswith("_seconds") else "bytes" if "bytes" in name else "none"
    # What the processes of a pod add up, pods do too; for all else the worst pod counts.
    function = "sum" if getattr(metric, "_multiprocess_mode", "") == "livesum" else "max"
    return [(f"{function}{by} ({name})", legend)], unit


def _panel(
    number: int,
    kind: str,
    title: str,
    about: str,
    queries: list[tuple[str, str]],
    unit: str,
    place: dict[str, int],
) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": about,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + n), "datasource": source, "expr": expr, "legendFormat": legend}
            for n, (expr, legend) in enumerate(queries)
        ],
    }


def files() -> dict[Path, str]:
    """Return the text of each generated file."""
    return {FILES / "capio.rules.yaml": rules(), FILES / "capio.dashboard.json": dashboard()}


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
