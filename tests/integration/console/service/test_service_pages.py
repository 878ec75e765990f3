"""`/admin-ui`, `/admin-ui/providers` and `/admin-ui/system`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.console.service.board import Board
from gateway.console.service.components import LONG_NAME
from gateway.console.service.vitals import Vitals
from gateway.core.money import dollars
from gateway.core.routing.live import LiveReport
from gateway.store.health.minutes import DeploymentMinutes, DeploymentReport, MinuteCounts
from gateway.store.reports.calls import CallLists
from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.booking import book_calls
from tests.support.console import viewer
from tests.support.reports import statements
from tests.support.usage import usage_event

NARROW = "\N{NARROW NO-BREAK SPACE}"


REPORTS = [
    LiveReport(worker="a", pod="one", version="1.0", running=4),
    LiveReport(worker="b", pod="two", version="1.1", running=3),
    LiveReport(worker="c", pod="two", version="1.1", running=2),
]


class Known:
    """A board or vitals that tests set."""

    def __init__(self, value: object) -> None:
        self.value = value

    async def read(self) -> object:
        return self.value


@pytest.fixture
async def page(database: Database, monkeypatch: pytest.MonkeyPatch) -> Acme:
    """An operator; Redis has minutes of the only deployment, and the gateway has metrics."""
    found = await acme(database)
    found.console.viewers.viewer = viewer(found.account_id, is_operator=True)
    now = int(time.time())
    report = DeploymentReport(
        deployment="p/m",
        attempts=40,
        ok=30,
        failures={"timeout": 8, "client": 2},
        ttft_p50_ms=250,
        ttft_p95_ms=1200,
    )
    minutes = DeploymentMinutes(report, (MinuteCounts(now // 60, 40, 30, 2),))
    services = found.console.services
    services.health = cast("Any", Known(Board(at=now, deployments={"p/m": minutes})))
    services.vitals = cast("Any", Known(Vitals(in_flight=7, ledger_lag_s=90.0)))
    monkeypatch.setattr(services.live, "_reports", Known(REPORTS))
    return found


async def test_now_shows_the_last_minutes_and_the_day(database: Database, page: Acme) -> None:
    """Two statements with the session's; an alert has its advice; plots have tables."""
    with statements(database) as ran:
        text = await page.get("/admin-ui")

    assert len(ran) == 1
    assert f"20{NARROW}%" in text  # 8 of 40: the client's failures are not the service's
    assert f"0.25{NARROW}s" in text
    assert "<dt>Running calls</dt><dd>9</dd><dd>of which on this host: 7</dd>" in text
    assert ">3</a></dd><dd>on 2 hosts; versions 1.0, 1.1</dd>" in text
    assert text.count("Show as table") == 2
    assert "The ledger is 90 s behind." in text
    assert "run more ledger writers" in text
    charged = sum(call.cost_nanousd for call in page.calls)
    assert f"${dollars(charged)} charged" in text


async def test_now_renews_only_its_figures(page: Acme) -> None:
    """A part is the same view without the frame of the page."""
    response = await page.console.client.get("/admin-ui", headers={"hx-request": "true"})

    assert 'id="now"' in response.text
    assert "<html" not in response.text


async def test_pages_say_what_they_do_not_know(page: Acme) -> None:
    """Without Redis and metrics there are dashes, not zeros."""
    page.console.services.health = cast("Any", Known(None))
    page.console.services.vitals = cast("Any", Known(None))

    now, providers = await page.get("/admin-ui"), await page.get("/admin-ui/providers")

    assert "Redis does not respond." in now
    assert "does not reach the metrics of a gateway" in now
    assert "Redis does not respond." in providers
    assert '<span class="tag ">unknown</span>' in providers


async def test_providers_show_every_deployment(database: Database, page: Acme) -> None:
    """With failures by class, the speed of recent calls and the margin of the day."""
    await book_calls(
        database,
        usage_event("req_fast", account_id=page.account_id, at_ms=page.calls[0].at_ms,
                    provider="p", upstream_model="m", cost_nanousd=400,
                    upstream_cost_nanousd=100, ttft_ms=100, duration_ms=1100),
    )  # fmt: skip

    with statements(database) as ran:
        text = await page.get("/admin-ui/providers")

    assert len(ran) == 2
    assert text.count("p/m") >= 2
    assert "degraded" in text
    assert "timeout 8" in text
    assert f"0.25{NARROW}s / 1.20{NARROW}s" in text
    assert "not known" in text  # what the upstream charges
    assert f"75{NARROW}%" in text


async def test_speed_is_that_of_streams_that_ended_lately(database: Database) -> None:
    """Tokens after the first one, by deployment; calls without a first token are left out."""
    await book_calls(
        database,
        usage_event("req_1", at_ms=2000, ttft_ms=100, duration_ms=1100),
        usage_event("req_2", at_ms=2001, ttft_ms=None, duration_ms=9000),
        usage_event("req_0", at_ms=1000, ttft_ms=100, duration_ms=100_000),
    )
    event = usage_event("req_1")

    found = await CallLists(database).speeds(1500)

    assert found == {
        f"{event.provider}/{event.upstream_model}": event.usage.output + event.usage.reasoning
    }


async def test_configuration_is_next_to_its_file(page: Acme, tmp_path: Path) -> None:
    """A price that was changed and not reloaded is marked; an error in the file is named."""
    path = "/admin-ui/system/configuration"
    without = await page.get(f"{path}?show=all&q=max_in_flight")
    file = tmp_path / "capio.toml"
    file.write_text(
        '[[providers]]\nname = "p"\n[providers.openai]\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[[models]]\nname = "kimi"\nprices = { input = "7", output = "2" }\n'
        'deployments = [{ provider = "p", model = "m" }]\n'
    )
    page.console.services.config_path = file
    changed = await page.get(f"{path}?show=different&q=kimi.prices.input")
    file.write_text("models = 7")
    broken = await page.get(path)

    assert "runs without a configuration file" in without
    assert "server.max_in_flight" in without
    assert "models.kimi.prices.input" in changed
    assert "differs from the file" in changed
    assert "&#34;7&#34;" in changed
    assert "The file cannot be loaded" in broken


async def test_components_are_all_there(page: Acme) -> None:
    """With a name of 128 characters."""
    text = await page.get("/admin-ui/system/components")

    assert len(LONG_NAME) == 128
    assert LONG_NAME in text
    for part in ("button primary", 'class="meter', 'class="plot', 'class="once', 'class="empty'):
        assert part in text, part


async def test_system_shows_the_stores(page: Acme) -> None:
    """A store that is away says so."""
    text = await page.get("/admin-ui/system")

    assert "to respond" in text
    assert "does not respond" in text  # no Redis here
    assert "htmx.org" in text


@pytest.mark.parametrize(
    "path",
    ["/admin-ui", "/admin-ui/providers", "/admin-ui/system", "/admin-ui/system/configuration"],
)
async def test_pages_are_for_operators_only(page: Acme, path: str) -> None:
    """An owner does not learn that they exist."""
    page.console.viewers.viewer = viewer(page.account_id)

    await page.get(path, 404)
