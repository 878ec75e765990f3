"""
Chaos: three deployments on two wires whose faults switch at random, under calls of both SDKs.

    python -m tests.process.chaos.run [--seconds 600] [--seed 7]

The findings say whether any call outlived its clocks, got a malformed response or failed although a
deployment was healthy, whether usage and ledger agree with what the upstreams recorded, and whether
retries stayed within their budget. `tests/process/test_chaos.py` is the short form.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from gateway.demo.app import DemoUpstream
from gateway.demo.record import Record, Served
from gateway.demo.script import Prompt, read
from tests.process.chaos.clients import MODEL, TOKENS, Clients, Outcome, is_protocol_error
from tests.process.chaos.weather import Weather
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

WIRES = {"a": ["openai"], "b": ["anthropic"], "c": ["openai", "anthropic"]}
WORKERS = 2
INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
FLOOR, PERCENT = 2, 20
TOTAL_S, ATTEMPTS_WITHIN_S = 10.0, 6.0
SLACK_S = 5.0
"""For a machine that does much else."""
RECOVERY_S = 4.0
"""After its last fault a deployment is known to be healthy: rest, breaker and probe are over."""
LATE_FAULTS = (
    "hang_stream", "cut", "end_early", "garbage", "wrong_length", "error_after_200", "drip",
)  # fmt: skip
"""They may break a stream after its first text, which no gateway can repair: `drip` by its total
time."""
CLOCKS = (
    f"{{ connect_s = 3, first_byte_s = 3, first_content_s = 3, idle_s = 3, total_s = {TOTAL_S} }}"
)
ROUTING = f"""
[routing]
attempts_within_s = {ATTEMPTS_WITHIN_S}
breaker_open_s = 1
out_probe_s = 1
max_rest_s = 2
retry_budget_floor = {FLOOR}
retry_budget_percent = {PERCENT}
"""


class Row(msgspec.Struct):
    """What SQL holds of one call."""

    request_id: str
    upstream_request_id: str | None
    outcome: str
    input_tokens: int
    output_tokens: int
    estimated: int
    cost_nanousd: int
    ledger_nanousd: int
    attempts: int
    chain: str | None

    @property
    def retries(self) -> int:
        """Attempts at a deployment that the call had tried before."""
        tried = [each["deployment"] for each in json.loads(self.chain or "[]")]
        return len(tried) - len(set(tried))


@dataclass
class Findings:
    """What a run has shown; `differences` is empty if all is well."""

    differences: list[str] = field(default_factory=list)
    calls: int = 0
    successes: int = 0
    broken: int = 0
    """Streams that a fault ended after their first text."""
    unserved: int = 0
    """Errors while no deployment was healthy."""
    failures: list[str] = field(default_factory=list)
    """Errors although a deployment was healthy."""
    with_healthy: int = 0
    """Calls that had a healthy deployment, without broken streams."""
    longest_s: float = 0.0
    retries: int = 0
    retry_bound: float = 0.0
    attempts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: set[str] = field(default_factory=set)

    def table(self) -> str:
        """Return the findings as text."""
        share = 100 * (1 - len(self.failures) / max(self.with_healthy, 1))
        lines = [
            f"calls {self.calls}: {self.successes} complete, {self.broken} broken by a fault after "
            f"their first text, {self.unserved} failed without a healthy deployment",
            f"with a healthy deployment {self.with_healthy}, of which {len(self.failures)} failed: "
            f"{share:.3f} % succeeded",
            f"longest call {self.longest_s:.1f} s",
            f"attempts {self.attempts}, retries {self.retries} of at most {self.retry_bound:.0f}",
            f"outcomes {dict(self.outcomes)}; {len(self.kinds)} kinds of faults",
            *self.failures[:20],
            *self.differences[:40],
        ]
        return "\n".join(lines)


def config(ports: dict[str, int]) -> str:
    """Return a provider for each deployment, and the model."""
    text = ""
    for name, wires in WIRES.items():
        text += f'\n[[providers]]\nname = "{name}"\ntimeouts = {CLOCKS}\n'
        for wire in wires:
            base = f"http://127.0.0.1:{ports[name]}" + ("/v1" if wire == "openai" else "")
            text += f'{wire} = {{ base_url = "{base}" }}\n'
    deployments = ", ".join(f'{{ provider = "{name}", model = "up-{name}" }}' for name in WIRES)
    return f"""{text}
[[models]]
name = "{MODEL}"
prices = {{ input = "1", output = "2" }}
deployments = [{deployments}]
"""


def rows_of(process: GatewayProcess) -> list[Row]:
    """Return what SQL holds of all calls."""
    names = Row.__struct_fields__
    ledger = (
        "coalesce((select -sum(amount_nanousd) from ledger_entries where "
        "ledger_entries.request_id = usage_events.request_id), 0) as ledger_nanousd"
    )
    columns = ", ".join(ledger if name == "ledger_nanousd" else name for name in names)
    path = process.data_dir / "capio.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        found = database.execute(f"select {columns} from usage_events")
        return [Row(*row) for row in found]


def expected_text() -> str:
    """Return the text of every complete response."""
    prompt = Prompt(
        text=f"/tokens {TOKENS}",
        task="",
        results=0,
        after_tool=False,
        tools=frozenset(),
        thinking=False,
        max_tokens=1000,
        input_chars=0,
    )
    return "".join(read(prompt).text)


MOST_ESTIMATED = len(expected_text()) // 2
"""Tokens that a part of the text may be estimated as."""


def judge(outcomes: list[Outcome], weather: Weather, findings: Findings) -> None:
    """Add what clients got."""
    text = expected_text()
    findings.calls = len(outcomes)
    for outcome in outcomes:
        took_s = outcome.ended_at - outcome.began_at
        findings.longest_s = max(findings.longest_s, took_s)
        since = outcome.began_at - RECOVERY_S
        healthy = any(weather.was_healthy(name, since, outcome.ended_at) for name in WIRES)
        how = f"{outcome.client} {'streamed' if outcome.streamed else 'whole'}"
        if took_s > ATTEMPTS_WITHIN_S + TOTAL_S + SLACK_S:
            findings.differences.append(f"{how}: took {took_s:.1f} s")
        got = outcome.text.replace("x" * 100_000, "").rstrip()
        if outcome.error is None:
            findings.successes += 1
            findings.with_healthy += healthy
            if got != text.rstrip() and got:
                findings.differences.append(f"{how}: complete with another text: {got[:200]!r}")
            continue
        if is_protocol_error(outcome.error):
            findings.differences.append(f"{how}: malformed: {outcome.error!r}")
        if outcome.text:
            findings.broken += 1
            if not text.startswith(got):
                findings.differences.append(f"{how}: broken with another text: {got[:200]!r}")
        elif healthy:
            findings.with_healthy += 1
            findings.failures.append(f"{how} after {took_s:.1f} s: {outcome.error!r}")
        else:
            findings.unserved += 1


def audit(rows: list[Row], served: list[Served], findings: Findings) -> None:
    """Compare usage and ledger with what the upstreams recorded."""
    by_id = {each.id: each for each in served}
    completed: Counter[str | None] = Counter()
    broken = 0
    for row in rows:
        findings.outcomes[row.outcome] += 1
        findings.attempts += row.attempts
        findings.retries += row.retries
        upstream = by_id.get(row.upstream_request_id or "")
        difference = difference_of(row, upstream)
        if difference is not None:
            findings.differences.append(f"{difference}, {upstream}: {row}")
        if row.outcome == "completed":
            completed[row.upstream_request_id] += 1
        elif row.cost_nanousd:
            broken += 1
    findings.differences += [
        f"charged {count} times: {upstream_id}"
        for upstream_id, count in completed.items()
        if count > 1
    ]
    for each in served:
        probe = not each.streamed and each.output_tokens == 1
        if each.status == 200 and each.fault is None and not probe and each.id not in completed:
            findings.differences.append(f"served and not charged: {each}")
    if sum(completed.values()) != findings.successes:
        findings.differences.append(
            f"{findings.successes} calls succeeded, {sum(completed.values())} were recorded"
        )
    if broken != findings.broken:
        findings.differences.append(f"{findings.broken} calls broke, {broken} were charged as such")


def difference_of(row: Row, upstream: Served | None) -> str | None:
    """Return what is wrong with the charge of one call, if anything is."""
    price = row.input_tokens * INPUT_NANOUSD + row.output_tokens * OUTPUT_NANOUSD
    if row.ledger_nanousd != row.cost_nanousd or row.cost_nanousd not in (0, price):
        return "charged otherwise than by its usage"
    if row.outcome == "completed":
        reported = None if upstream is None else (upstream.input_tokens, upstream.output_tokens)
        right = reported == (row.input_tokens, row.output_tokens) and row.cost_nanousd > 0
        return None if right else "not what the upstream reported"
    if not row.cost_nanousd:
        return None
    if upstream is None or upstream.fault is None or not row.estimated:
        return "charged without a fault"
    if not upstream.fault.startswith(LATE_FAULTS) or row.output_tokens > MOST_ESTIMATED:
        return "charged too much"
    return None


async def play(home: Path, seconds: float, seed: int) -> Findings:
    """Run everything in this process, but the gateway."""
    upstream, findings = DemoUpstream(pace_s=0.005), Findings()
    upstream.record = Record(kept=None)
    ports = {name: await upstream.listen(name) for name in WIRES}
    process = GatewayProcess(home, config(ports), workers=WORKERS, extra=ROUTING)
    async with httpx2.AsyncClient() as admin:

        async def put(rules: list[dict[str, object]]) -> None:
            made = await admin.put(f"http://127.0.0.1:{ports['a']}/faults", json=rules)
            made.raise_for_status()

        try:
            await asyncio.to_thread(process.start)
            await asyncio.to_thread(
                process.capio, "accounts", "create", "chaos", "--postpaid", "--json"
            )
            made = await asyncio.to_thread(
                process.capio, "keys", "create", "--account", "chaos", "--name", "k", "--json"
            )
            clients = Clients(process.base_url, json.loads(made)["key"], seed)
            weather = Weather(list(WIRES), seed, put)
            blowing = asyncio.create_task(weather.blow())
            began_at = time.monotonic()
            await clients.run(seconds)
            took_s = time.monotonic() - began_at
            blowing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await blowing
            judge(clients.outcomes, weather, findings)
            rows = await settled_rows(process, clients.outcomes)
        finally:
            await asyncio.to_thread(process.stop)
            await upstream.aclose()
    findings.kinds = weather.kinds
    audit(rows, upstream.record.served(), findings)
    windows = took_s / 10 + 1
    findings.retry_bound = WORKERS * FLOOR * windows + PERCENT / 100 * findings.calls
    return findings


async def settled_rows(process: GatewayProcess, outcomes: list[Outcome]) -> list[Row]:
    """Return what SQL holds once it has all calls that an upstream may have been asked for."""
    refused = sum(_status(outcome.error) in (429, 503, 529) for outcome in outcomes)
    found: list[Row] = []

    def complete() -> bool:
        found[:] = rows_of(process)
        return len(found) >= len(outcomes) - refused

    await wait_until(complete, 20)
    await asyncio.sleep(1)
    return rows_of(process)


def _status(error: Any) -> int | None:
    return getattr(error, "status_code", None)


def run(home: Path, seconds: float, seed: int) -> Findings:
    """Run and compare."""
    return asyncio.run(play(home, seconds, seed))


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        findings = run(Path(directory), options.seconds, options.seed)
    sys.stdout.write(findings.table() + "\n")
    sys.exit(bool(findings.differences) or len(findings.failures) * 1000 > findings.with_healthy)


if __name__ == "__main__":
    main()
