"""`/admin-ui/providers`: the health of each deployment, from all attempts of all pods."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.responses import Response

from gateway.console.operators.margins import margin_share
from gateway.console.reporting.amounts import duration, percent
from gateway.console.service.board import RECENT_MINUTES
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.model import Deployment, Model
from gateway.core.routing.health import HealthState
from gateway.core.routing.probes import Probe
from gateway.operations.refusals import REFUSALS, refusal
from gateway.store.health.minutes import (
    MOST_MINUTES,
    OF_CLIENTS,
    DeploymentMinutes,
    DeploymentReport,
    MinuteCounts,
)
from gateway.store.reports.calls import CallLists
from gateway.store.reports.usage import Run, SumsBy, SumsFilter, UsageSum, UsageSums

EVERY_S: Final = 5
BAR_MINUTES: Final = 3
FAILING_ABOVE: Final = 0.5
DEGRADED_ABOVE: Final = 0.05
_MINUTE_MS: Final = 60_000
_A_DAY: Final = 96
_PATH: Final = "/admin-ui/providers"
_QUARTER_S: Final = 900


class StripBar(msgspec.Struct, frozen=True, kw_only=True):
    """Some minutes of a strip."""

    minutes_ago: int
    attempts: int
    failed: int

    @property
    def level(self) -> str:
        """The colour: none, ok, warn or bad."""
        if not self.attempts:
            return "none"
        share = self.failed / self.attempts
        return "bad" if share > FAILING_ABOVE else "warn" if share > DEGRADED_ABOVE else "ok"


class DeploymentLine(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment of a model as the page shows it."""

    model: Model
    deployment: Deployment
    state: str
    kind: str
    """Of the state's tag: ok, warn, bad or ""."""
    report: DeploymentReport
    failures: list[tuple[str, int]]
    """By class, the most frequent first."""
    strip: list[StripBar]
    tokens_per_s: float | None
    day: UsageSum
    margin: str


async def providers(page: Page) -> Response:
    """Show all deployments."""
    return await _show(page)


async def probe(page: Page) -> Response:
    """Probe a deployment and show the outcome."""
    form = await page.form()
    if not await page.claim(form):
        return page.redirect(_PATH)
    try:
        found = await page.services.probes.probe(form.text("deployment"), page.actor)
    except REFUSALS as error:
        return await _show(page, error=refusal(error).message, status=409)
    return await _show(page, found=found)


async def _show(
    page: Page, *, found: Probe | None = None, error: str = "", status: int = 200
) -> Response:
    services, at = page.services, time.time()
    board = await services.health.read()
    quarter = int(at) // _QUARTER_S
    runs = [Run(quarter - _A_DAY + 1, quarter + 1, 0, _A_DAY)]
    sums = await UsageSums(services.database).read(SumsFilter(), runs, SumsBy.DEPLOYMENT)
    since_ms = int(at * 1000) - RECENT_MINUTES * _MINUTE_MS
    speeds = await CallLists(services.database).speeds(since_ms)
    known = {} if board is None else board.deployments
    lines = deployment_lines(
        services.catalogue.models, known, {row.group: row.sum for row in sums}, speeds
    )
    return page.render(
        "service/providers.html",
        status=status,
        probe=found,
        error=error,
        idem=page.new_form_token(),
        lines=lines,
        has_health=board is not None,
        every_s=EVERY_S,
        minutes=RECENT_MINUTES,
        strip_minutes=MOST_MINUTES,
        of_clients=OF_CLIENTS,
        duration=duration,
        percent=percent,
    )


def deployment_lines(
    models: Sequence[Model],
    known: Mapping[str, DeploymentMinutes],
    day: Mapping[str, UsageSum],
    speeds: Mapping[str, float],
) -> list[DeploymentLine]:
    """Return a line for each deployment of each model, the models in their order."""
    lines = []
    for model in models:
        for deployment in model.deployments:
            label = deployment.label
            found = known.get(label, DeploymentMinutes(DeploymentReport(deployment=label), ()))
            state, kind = state_of(found.report) if label in known else ("unknown", "")
            lines.append(
                DeploymentLine(
                    model=model,
                    deployment=deployment,
                    state=state,
                    kind=kind,
                    report=found.report,
                    failures=sorted(found.report.failures.items(), key=lambda item: -item[1]),
                    strip=bars(found.strip),
                    tokens_per_s=speeds.get(label),
                    day=day.get(label, UsageSum()),
                    margin=margin_share(day.get(label, UsageSum())),
                )
            )
    return lines


def state_of(report: DeploymentReport) -> tuple[str, str]:
    """Return the state of a deployment in a word or two, and the kind of its tag."""
    if report.state is HealthState.OUT:
        words = {"credential": "credential refused", "quota": "out of credit"}
        return words.get(report.reason or "", "refused"), "bad"
    if report.state in (HealthState.OPEN, HealthState.HALF_OPEN):
        return "failing", "bad"
    if report.state is HealthState.RESTING:
        return "resting", "warn"
    failed = sum(n for kind, n in report.failures.items() if kind not in OF_CLIENTS)
    counted = report.ok + failed
    if not counted:
        return "idle", ""
    share = failed / counted
    if share > FAILING_ABOVE:
        return "failing", "bad"
    return ("degraded", "warn") if share > DEGRADED_ABOVE else ("healthy", "ok")


def bars(strip: Sequence[MinuteCounts]) -> list[StripBar]:
    """Return a strip with one bar for every BAR_MINUTES minutes, the oldest first."""
    found = []
    for start in range(0, len(strip), BAR_MINUTES):
        part = strip[start : start + BAR_MINUTES]
        failed = sum(each.failed for each in part)
        found.append(
            StripBar(
                minutes_ago=len(strip) - start,
                attempts=sum(each.ok for each in part) + failed,
                failed=failed,
            )
        )
    return found


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, providers),
    Route("POST", f"{_PATH}/probe", Access.OPERATOR, probe),
)
