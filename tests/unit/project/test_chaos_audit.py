"""The audit of the chaos run notices what it is for."""

from __future__ import annotations

import anthropic
import httpx2
import msgspec
import openai
import pytest

from gateway.demo.record import Served
from tests.process.chaos.clients import Outcome, is_protocol_error
from tests.process.chaos.run import Findings, Row, audit, expected_text, judge
from tests.process.chaos.weather import Period, Weather

REQUEST = httpx2.Request("POST", "http://gateway.test/")
ROW = Row("req_1", "demo1", "completed", 30, 20, 0, 70_000, 70_000, 1, None)
SERVED = Served(
    "demo1", "a", "up-a", "openai", True, None, 200, 20, 30, 20, 1, "complete"
)  # fmt: skip
BROKEN = msgspec.structs.replace(ROW, outcome="failed", estimated=1)
CUT = msgspec.structs.replace(SERVED, fault="cut after=5", ending="broken")


def differences(rows: list[Row], served: list[Served], *, successes: int, broken: int) -> str:
    """Return what the audit says."""
    findings = Findings(successes=successes, broken=broken)
    audit(rows, served, findings)
    return "; ".join(findings.differences)


def test_agreeing_records_have_no_difference() -> None:
    """A complete call, a broken one, a probe and a failed one."""
    probe = msgspec.structs.replace(SERVED, id="demo2", streamed=False, output_tokens=1)
    cut = msgspec.structs.replace(CUT, id="demo3")
    broken = msgspec.structs.replace(BROKEN, upstream_request_id="demo3")
    failed = Row("req_3", None, "failed", 0, 0, 0, 0, 0, 1, None)

    said = differences([ROW, broken, failed], [SERVED, probe, cut], successes=1, broken=1)

    assert said == ""


@pytest.mark.parametrize(
    ("rows", "served", "words"),
    [
        ([], [SERVED], "served and not charged"),
        ([ROW, ROW], [SERVED], "charged 2 times: demo1"),
        ([msgspec.structs.replace(ROW, ledger_nanousd=0)], [SERVED], "otherwise than by its usage"),
        ([msgspec.structs.replace(ROW, cost_nanousd=1)], [SERVED], "otherwise than by its usage"),
        ([ROW], [msgspec.structs.replace(SERVED, output_tokens=21)], "not what the upstream"),
        ([ROW], [], "not what the upstream reported"),
        ([BROKEN], [SERVED], "charged without a fault"),
        ([msgspec.structs.replace(BROKEN, estimated=0)], [CUT], "charged without a fault"),
        ([BROKEN], [msgspec.structs.replace(CUT, fault="status")], "charged too much"),
        ([], [], "1 calls succeeded, 0 were recorded"),
        ([], [], "1 calls broke, 0 were charged as such"),
    ],
)
def test_difference_is_named(rows: list[Row], served: list[Served], words: str) -> None:
    """Between usage, ledger, upstreams and clients."""
    assert words in differences(rows, served, successes=1, broken=1)


def test_retries_are_attempts_at_a_deployment_tried_before() -> None:
    """A fallback is none."""
    chain = '[{"deployment":"a"},{"deployment":"b"},{"deployment":"a"}]'

    assert msgspec.structs.replace(ROW, chain=chain).retries == 1


@pytest.mark.parametrize(
    ("error", "malformed"),
    [
        (openai.APIConnectionError(request=REQUEST), False),
        (anthropic.APIError("x", REQUEST, body=None), False),
        (httpx2.RemoteProtocolError("cut"), False),
        (EOFError("no finish reason"), True),
        (ValueError("no JSON"), True),
        (KeyError("choices"), True),
    ],
)
def test_only_reported_errors_and_cuts_are_no_protocol_error(
    error: Exception, malformed: bool
) -> None:
    """Whatever else the SDKs raise is a malformed response."""
    assert is_protocol_error(error) is malformed


async def no_rules(_: list[dict[str, object]]) -> None:
    """Take the rules of nobody."""


def test_outcomes_are_judged_by_the_health_of_their_time() -> None:
    """A failure counts only if a deployment was healthy; a broken stream and a late call count."""
    weather = Weather(["a", "b", "c"], 1, no_rules)
    weather.periods = [Period(name, 100.0, 200.0) for name in "abc"]
    error = openai.APIConnectionError(request=REQUEST)
    text = expected_text()
    findings = Findings()

    judge(
        [
            Outcome(50.0, 51.0, "openai", True, "", error),
            Outcome(150.0, 151.0, "openai", True, "", error),
            Outcome(150.0, 151.0, "openai", True, text[:9], error),
            Outcome(250.0, 251.0, "openai", True, text, None),
            Outcome(250.0, 290.0, "openai", True, "another", None),
        ],
        weather,
        findings,
    )

    assert (findings.calls, findings.successes, findings.broken) == (5, 2, 1)
    assert (findings.with_healthy, len(findings.failures), findings.unserved) == (3, 1, 1)
    assert [each.split(":")[1][:9] for each in findings.differences] == [" took 40.", " complete"]
