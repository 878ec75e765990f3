"""
What clients get and pay for every fault of an upstream, and what becomes of the deployment.

Each case has a model and a provider of its own, whose header has the demo upstream inject the
fault; all cases are called at once by the real SDKs. What was charged is compared with what the
upstream says that it reported.

Each fault meets every pair of client, streaming and fallback; with `CAPIO_FAULTS_LONG=1` every
combination of the three.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from gateway.demo.faults import KINDS
from tests.support.fault_table import CASES, TABLE, Case, Fault
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]

INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
"""The price of a token, at $1 and $2 a million."""
TOKENS = 20
HELLO = "Hello from the demo upstream!"
CLOCKS = "{ connect_s = 5, first_byte_s = 3, first_content_s = 3, idle_s = 3, total_s = 60 }"
ROUTING = """
[routing]
retries = 0
probes = false
breaker_failures = 1
breaker_open_s = 600
out_probe_s = 600
"""
"""Each deployment fails once, and its state stays as that left it."""
AT_ONCE = 24
"""Calls that run at the same time."""


BY_FAULT = pytest.mark.parametrize("fault", TABLE, ids=[fault.text for fault in TABLE])


def cases_of(fault: Fault) -> list[Case]:
    return [case for case in CASES if case.fault is fault]


class Outcome(NamedTuple):
    """What a client got: the text so far, and the error that followed it or None."""

    text: str
    error: Exception | None


class Charge(NamedTuple):
    """What SQL holds of one call."""

    outcome: str
    input_tokens: int
    output_tokens: int
    estimated: bool
    cost_nanousd: int
    ledger_nanousd: int
    attempts: int


def config(main: int, spare: int) -> str:
    """Return a provider and a model for each case, and the provider to fall back to."""
    text = endpoints("spare", f"http://127.0.0.1:{spare}")
    closed = free_port()
    for case in CASES:
        bases = {"closed": f"http://127.0.0.1:{closed}", "tls": f"https://127.0.0.1:{main}"}
        text += endpoints(case.model, bases.get(case.fault.text, f"http://127.0.0.1:{main}"))
        if case.fault.text not in bases:
            text += f'headers = {{ x-capio-demo-fault = "{case.fault.text}" }}\n'
        text += f"timeouts = {CLOCKS}\n"
        providers = [case.model, "spare"] if case.fallback else [case.model]
        deployments = ", ".join(
            f'{{ provider = "{provider}", model = "{case.model}" }}' for provider in providers
        )
        text += f"""
[[models]]
name = "{case.model}"
prices = {{ input = "1", output = "2" }}
deployments = [{deployments}]
"""
    return text


def endpoints(name: str, base: str) -> str:
    """Return the beginning of a provider."""
    return f"""
[[providers]]
name = "{name}"
openai = {{ base_url = "{base}/v1" }}
anthropic = {{ base_url = "{base}" }}
"""


async def ask_openai(client: openai.AsyncOpenAI, case: Case) -> Outcome:
    """Call with OpenAI's SDK."""
    text = ""
    messages: Any = [{"role": "user", "content": f"/tokens {TOKENS}"}]
    try:
        if not case.streamed:
            made = await client.chat.completions.create(model=case.model, messages=messages)
            return Outcome(made.choices[0].message.content or "", None)
        events = await client.chat.completions.create(
            model=case.model, messages=messages, stream=True
        )
        finished = False
        async for event in events:
            for choice in event.choices:
                text += choice.delta.content or ""
                finished = finished or choice.finish_reason is not None
    except Exception as error:  # noqa: BLE001 (it is what the test is about)
        return Outcome(text, error)
    return Outcome(text, None if finished else EOFError("the stream ended without a reason"))


async def ask_anthropic(client: anthropic.AsyncAnthropic, case: Case) -> Outcome:
    """Call with Anthropic's SDK."""
    text = ""
    asked: Any = {
        "model": case.model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": f"/tokens {TOKENS}"}],
    }
    try:
        if not case.streamed:
            made = await client.messages.create(**asked)
            return Outcome("".join(part.text for part in made.content), None)
        async with client.messages.stream(**asked) as events:
            async for piece in events.text_stream:
                text += piece
            await events.get_final_message()
    except Exception as error:  # noqa: BLE001 (it is what the test is about)
        return Outcome(text, error)
    return Outcome(text, None)


async def ask_all(url: str, key: str, is_recorded: Callable[[], bool]) -> dict[str, Outcome]:
    """
    Make all calls, as many at once as the machine bears, and stay until they are recorded.

    A client that closes its connection with the last byte may be taken for one that left.
    """
    places = asyncio.Semaphore(AT_ONCE)
    async with (
        openai.AsyncOpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0) as openai_client,
        anthropic.AsyncAnthropic(api_key=key, base_url=url, max_retries=0) as anthropic_client,
    ):

        async def ask(case: Case) -> tuple[str, Outcome]:
            async with places:
                if case.client == "openai":
                    return case.model, await ask_openai(openai_client, case)
                return case.model, await ask_anthropic(anthropic_client, case)

        outcomes = dict(await asyncio.gather(*map(ask, CASES)))
        await wait_until(lambda: asyncio.to_thread(is_recorded), 20)
        return outcomes


class Results(NamedTuple):
    """Everything that is known of the calls, by model."""

    outcomes: dict[str, Outcome]
    charges: dict[str, Charge]
    served: dict[str, list[dict[str, Any]]]
    """What the upstream says of each attempt."""
    balance_nanousd: int
    health: dict[str, dict[str, Any]]
    """What `capio health` says of each deployment."""


def charges_of(process: GatewayProcess) -> dict[str, Charge]:
    """Return what SQL holds of all calls."""
    query = """
        select model, outcome, input_tokens, output_tokens, estimated, cost_nanousd,
            coalesce((select -sum(amount_nanousd) from ledger_entries
                where ledger_entries.request_id = usage_events.request_id), 0), attempts
        from usage_events"""
    path = process.data_dir / "capio.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        return {row[0]: Charge(*row[1:]) for row in database.execute(query)}


def balance_of(process: GatewayProcess) -> int:
    """Return the balance of the only account."""
    path = process.data_dir / "capio.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        (balance,) = database.execute("select balance_nanousd from accounts").fetchone()
        return int(balance)


def health_of(process: GatewayProcess) -> dict[str, dict[str, Any]]:
    """Return what `capio health` says of each deployment."""
    rows = json.loads(process.capio("health", "--minutes", "10", "--json"))
    return {row["deployment"]: row for row in rows}


def attempts_in(health: dict[str, dict[str, Any]]) -> int:
    """Return the attempts of all deployments."""
    return sum(row["attempts"] for row in health.values())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Make all calls, through a gateway of their own."""
    main, spare = free_port(), free_port()
    command = [sys.executable, "-m", "gateway.demo", str(main), "0", "--spare", str(spare)]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    home = tmp_path_factory.mktemp("faults")
    process = GatewayProcess(home, config(main, spare), workers=1, extra=ROUTING)
    try:
        process.start()
        process.capio("accounts", "create", "faults", "--postpaid", "--json")
        made = process.capio("keys", "create", "--account", "faults", "--name", "k", "--json")
        outcomes = asyncio.run(
            ask_all(
                process.base_url,
                json.loads(made)["key"],
                lambda: len(charges_of(process)) == len(CASES),
            )
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{main}/served", timeout=5) as answer:
            rows = json.loads(answer.read())
        served: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            served.setdefault(row["model"], []).append(row)
        # Counts reach Redis once per second.
        expected = sum(charge.attempts for charge in charges_of(process).values())
        wait_until_sync(lambda: attempts_in(health_of(process)) >= expected, 10)
        charges, balance = charges_of(process), balance_of(process)
        yield Results(outcomes, charges, served, balance, health_of(process))
    finally:
        process.stop()
        demo.terminate()
        demo.wait(10)


@BY_FAULT
def test_client_gets_the_right_outcome(results: Results, fault: Fault) -> None:
    """Text, an error with its status, or an error after some text: never half a response."""
    for case in cases_of(fault):
        check_outcome(results, case)


def check_outcome(results: Results, case: Case) -> None:
    text, error = results.outcomes[case.model]

    if case.expected == "text":
        assert error is None
        assert text.startswith(HELLO[:5]) or "x" * 100 in text
        return
    assert isinstance(error, openai.APIError | anthropic.APIError), error
    if case.expected == "breaks":
        assert text
        assert HELLO.startswith(text.strip()) or text.startswith(HELLO[:5])
        return
    assert text == ""
    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError), error
    assert str(error.status_code) == case.expected
    if case.fault.text.startswith("rate_limit"):
        assert error.response.headers["retry-after"] == "90"


def is_insured(case: Case) -> bool:
    """Return whether the upstream may charge for a call of which the client got nothing."""
    kind = case.fault.text.split()[0]
    if not case.streamed:
        return kind == "error_after_200"
    # Its first event reports the input, before any text.
    return case.client == "anthropic" and kind in (
        "hang_stream", "cut", "end_early", "error_after_200"
    )  # fmt: skip


@BY_FAULT
def test_client_pays_for_what_it_got(results: Results, fault: Fault) -> None:
    """The reported usage of a response, an estimate of half a one, nothing for an error."""
    for case in cases_of(fault):
        check_charge(results, case)


def check_charge(results: Results, case: Case) -> None:
    charge = results.charges[case.model]

    price = charge.input_tokens * INPUT_NANOUSD + charge.output_tokens * OUTPUT_NANOUSD
    assert charge.ledger_nanousd == charge.cost_nanousd
    if case.expected.isdigit():
        assert charge.outcome == ("insured" if is_insured(case) else "failed")
        assert charge.cost_nanousd == 0
        return
    assert charge.cost_nanousd == price
    last = results.served[case.model][-1]
    if case.expected == "text":
        assert not charge.estimated
        assert last["ending"] == "complete"
        reported = (last["input_tokens"], last["output_tokens"])
        assert (charge.input_tokens, charge.output_tokens) == reported
        assert charge.output_tokens == TOKENS
        return
    assert charge.outcome == "failed"
    assert charge.estimated
    assert 0 < charge.output_tokens < TOKENS
    assert charge.input_tokens > 0


@BY_FAULT
def test_only_failures_before_any_text_are_tried_elsewhere(results: Results, fault: Fault) -> None:
    """The spare deployment serves a call only if the client has received nothing."""
    for case in cases_of(fault):
        check_attempts(results, case)


def check_attempts(results: Results, case: Case) -> None:
    deployments = [row["deployment"] for row in results.served.get(case.model, [])]

    assert ("spare" in deployments) is (case.fallback and case.alone.isdigit())


@BY_FAULT
def test_failure_is_counted_for_its_deployment_only(results: Results, fault: Fault) -> None:
    """Failures of the upstream open the breaker, demands let it rest, refusals take it out."""
    for case in cases_of(fault):
        check_health(results, case)


def check_health(results: Results, case: Case) -> None:
    health = results.health[f"{case.model}/{case.model}"]
    failures = {case.failure: 1} if case.failure else {}
    served = not failures

    assert (health["failures"], health["state"]) == (failures, case.fault.state)
    assert (health["attempts"], health["ok"]) == (1, int(served))
    if case.fallback:
        spare = results.health[f"spare/{case.model}"]
        used = not served and case.expected == "text"
        assert (spare["attempts"], spare["ok"]) == (int(used), int(used))
        assert (spare["failures"], spare["state"]) == ({}, "ready")


def test_balance_is_the_sum_of_all_charges(results: Results) -> None:
    """No call is charged beside its record."""
    total = sum(charge.cost_nanousd for charge in results.charges.values())

    assert results.balance_nanousd == -total
    assert total > 0


def test_table_has_every_kind_of_fault() -> None:
    """A new kind needs a row."""
    assert {fault.text.split()[0] for fault in TABLE} == {*KINDS, "closed", "tls"}
