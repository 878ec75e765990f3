"""The probe button of `/admin-ui/providers`, and what it shows."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.core.routing.failures import FailureClass
from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.operations.refusals import ProbedLatelyError
from gateway.store.accounts.audit import Actor
from gateway.store.sql.database import Database
from tests.support.operators import Operator, operator

PATH = "/admin-ui/providers"
EVIL = '<script>alert("1")</script>'


class Probes:
    """Probes with a fixed outcome."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def probe(self, deployment: str, by: Actor) -> Probe:
        if self.error is not None:
            raise self.error
        self.asked.append((deployment, by.name))
        outcomes = (
            ProbeOutcome(credential=1, accepted=True, status=200, ms=41),
            ProbeOutcome(credential=2, accepted=False, status=401, ms=5,
                         failure=FailureClass.CREDENTIAL, message=EVIL),
        )  # fmt: skip
        return Probe(probe="x", deployment=deployment, outcomes=outcomes)


@pytest.fixture
async def probes(database: Database) -> tuple[Operator, Probes]:
    page, fixed = await operator(database), Probes()
    page.acme.console.services.probes = cast("Any", fixed)
    return page, fixed


async def test_probe_shows_each_credential_with_the_upstreams_words(
    probes: tuple[Operator, Probes],
) -> None:
    """Status, time and message; a second click on the same button sends nothing."""
    page, fixed = probes
    idem = await page.idem(PATH)

    found = await page.post(f"{PATH}/probe", deployment="p/m", idem=idem)
    again = await page.post(f"{PATH}/probe", deployment="p/m", idem=idem)

    assert fixed.asked == [("p/m", "operator:user_1")]
    assert (found.status_code, again.status_code) == (200, 303)
    assert "Probe of p/m" in found.text
    assert "&lt;script&gt;" in found.text
    assert EVIL not in found.text
    assert "credential" in found.text


async def test_refused_probe_says_why(probes: tuple[Operator, Probes]) -> None:
    """The page is shown all the same."""
    page, fixed = probes
    fixed.error = ProbedLatelyError("p/m")

    found = await page.post(f"{PATH}/probe", deployment="p/m", idem=await page.idem(PATH))

    assert found.status_code == 409
    assert "was probed a moment ago" in found.text
    assert 'id="providers"' in found.text
