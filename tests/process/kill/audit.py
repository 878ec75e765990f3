"""
Compares what the kill test's upstream, its clients and the gateway's books say of each call.

| outcome | what is allowed |
| --- | --- |
| completed, drained | the upstream reported its usage, and the row says the same |
| estimated | the upstream ended its response without usage; output is its bytes by four |
| cancelled | the client left; output is between nothing and what was sent |
| failed, insured | the upstream broke, or its response did; charged only what content had come |
| abandoned | its worker was killed; charged is its last checkpoint: between what had been sent one
  renewal (and a second) before the kill, or before Redis went away or the worker stood still, and
  all that was sent. That its worker only stood still is no reason: it settles when it goes on |
| failed, its worker stood still | the upstream's clocks ran out meanwhile; as failed |
| failed, timed out | the upstream was late by its own record, on a busy machine; as failed |
| abandoned, had responded | as before; killed between the response's end and the settlement |
| no row: lost with Redis | a double failure: the worker was killed while Redis was away or just
  had been, before this worker reported again what only it knew |
| no row: not admitted | the upstream never saw the call, nor did its client get a response |

All else is a difference without an explanation.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import msgspec

from gateway.core.model import Prices, Usage
from gateway.core.pricing import cost_nanousd
from tests.process.kill.records import Call

PRICES = Prices(
    input=1_000_000_000, output=3_000_000_000, cache_read=100_000_000, cache_write=1_250_000_000,
    reasoning=3_000_000_000,
)  # fmt: skip
"""Those of the kill test's models, in nano-dollars per million tokens."""
SLACK_S = 2.0
"""For a busy machine: of a renewal, of a signal, of a restarted Redis."""
IDLE_S = 6.0
"""The shortest clock of the kill test's providers."""
SETTLE_S = 2.0
"""From the response's end to the settlement, at most: Redis' timeout, then the disk."""
AWAY_AFTER_S = 2.0
"""After Redis' return: until the workers have reconnected and resent what it may have lost."""
AOF_S = 2.0
"""What Valkey may lose when killed: it delays writes for that time while another sync runs."""


class Kill(msgspec.Struct, frozen=True):
    """One disturbance: what, which process, and from when to when it was away (Unix seconds)."""

    what: str
    pid: int
    at: float
    until: float

    @property
    def is_worker_pause(self) -> bool:
        """Whether a worker stood still in it."""
        return self.what in ("worker paused", "all workers paused")


class Audit:
    """
    The comparison.

    Args:
        calls: By marker, see `kill_records.read_calls`.
        rows: Of the table usage_events.
        kills: All disturbances.
        renew_s: `money.renew_s`.

    Attributes:
        outcomes: Calls by what became of them.
        differences: Those without an explanation, a line each.
        not_charged_nanousd: What abandoned calls had cost beyond their last checkpoint.
    """

    def __init__(
        self,
        calls: dict[str, Call],
        rows: list[dict[str, Any]],
        kills: list[Kill],
        renew_s: float,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.differences: list[str] = []
        self.not_charged_nanousd = 0
        self._calls = calls
        self._worker_kills = {kill.pid: kill.at for kill in kills if kill.what == "worker"}
        self._outages = [kill for kill in kills if kill.what == "valkey"]
        self._freezes = [kill for kill in kills if kill.what in ("valkey frozen", "valkey paused")]
        self._pauses = [kill for kill in kills if kill.is_worker_pause]
        self._renew_s = renew_s
        self._rows = rows
        attempts = [attempt["usage"] for call in calls.values() for attempt in call.attempts]
        self._most_input = max(
            (usage["input"] + usage["cache_read"] + usage["cache_write"] for usage in attempts),
            default=0,
        )

    def run(self) -> None:
        """Compare everything."""
        named, bare = self._sorted_rows()
        for call in self._calls.values():
            found = named.pop(call.marker, [])
            if not found:
                found = self._take_bare(call, bare)
            if len(found) > 1:
                self._differ(call, f"has {len(found)} rows")
            elif found:
                self._check_row(call, found[0])
            else:
                self._check_missing(call)
        for marker in named:
            self.differences.append(f"{marker}: a row of a call that nobody made")
        for row in (row for rows in bare.values() for row in rows):
            self.differences.append(f"{row['request_id']}: a bare row of a call that nobody made")

    def _sorted_rows(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        named: dict[str, list[Any]] = defaultdict(list)
        bare: dict[str, list[Any]] = defaultdict(list)
        for row in self._rows:
            if row["user_agent"]:
                named[row["user_agent"]].append(row)
            else:  # killed before its first checkpoint: known by its lane and time
                bare[row["model"]].append(row)
        return named, bare

    def _take_bare(self, call: Call, bare: dict[str, list[Any]]) -> list[Any]:
        rows = bare[f"lane-{call.lane}"]
        # A paused worker may admit the call after its client left and sent its next one.
        until = max([call.next_began, *(attempt["at"] for attempt in call.attempts)])
        for row in rows:
            if call.began - 0.01 <= row["at_ms"] / 1000 < until:
                rows.remove(row)
                return [row]
        return []

    def _differ(self, call: Call, why: str) -> None:
        attempts = [
            {name: value for name, value in attempt.items() if name != "marks"}
            for attempt in call.attempts
        ]
        self.outcomes["UNEXPLAINED"] += 1
        self.differences.append(
            f"{call.marker}: {why}; client {call.how} {call.status} from {call.began} to "
            f"{call.ended}; upstream {json.dumps(attempts)}"
        )

    # Calls without a row.

    def _check_missing(self, call: Call) -> None:
        if not call.attempts:
            if call.how == "whole":
                self._differ(call, "got a response that no upstream sent, without a row")
            else:
                self.outcomes[f"no row: not admitted, client {call.how}"] += 1
            return
        killed_at = self._killed_at(call)
        if killed_at is not None and self._redis_was_away(call, killed_at):
            self.outcomes["no row: lost with Redis (double failure)"] += 1
        else:
            self._differ(call, "was served and has no row")

    def _killed_at(self, call: Call) -> float | None:
        """Return when the worker that asked the upstream for this call was killed."""
        for attempt in reversed(call.attempts):
            at = self._worker_kills.get(attempt["worker"])
            if at is None and attempt["worker"] == 0:  # gone before the upstream could see whose
                kills = self._worker_kills.values()
                began = min(call.began, attempt["at"] - SLACK_S)
                at = max((at for at in kills if began <= at <= attempt["at"]), default=None)
            if at is not None:
                return at
        return None

    def _redis_was_away(self, call: Call, killed_at: float) -> bool:
        return any(
            outage.at - AOF_S <= killed_at <= outage.until + AWAY_AFTER_S
            and call.began <= outage.until + AWAY_AFTER_S
            for outage in (*self._outages, *self._freezes)
        )

    # Calls with a row.

    def _check_row(self, call: Call, row: dict[str, Any]) -> None:
        usage, outcome = usage_of(row), row["outcome"]
        expected = 0 if outcome == "insured" else cost_nanousd(usage, PRICES)
        free = outcome == "failed" and row["cost_nanousd"] == 0
        bare = outcome == "abandoned" and row["cost_nanousd"] == 0 and usage == Usage()
        if row["cost_nanousd"] != expected and not free and not bare:
            self._differ(call, f"{outcome} costs {row['cost_nanousd']}, not {expected}")
            return
        answer = self._answer(call, row)
        check = getattr(self, f"_check_{outcome}", None)
        why = f"unknown outcome {outcome}" if check is None else check(call, row, usage, answer)
        if why:
            self._differ(call, f"{outcome}, {why}: row {json.dumps(row)}")
        elif outcome == "abandoned" and call.how == "whole":
            self.outcomes["abandoned, had responded"] += 1
        else:
            self.outcomes[outcome] += 1

    def _answer(self, call: Call, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return the upstream's record of the attempt that responded."""
        for attempt in call.attempts:
            if attempt["id"] == row["upstream_request_id"]:
                return attempt
        return None

    def _check_completed(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if answer is None or not answer["usage_sent"]:
            return "but the upstream did not report"
        if usage != Usage(**answer["usage"]):
            return "with other usage"
        killed_at = self._killed_at(call)
        cut = call.how in ("cut", "hung", "refused")
        if cut and (killed_at is None or killed_at > call.ended + SETTLE_S):
            if self._stood_still(call):
                return ""
            return "but the client has no whole response"
        return ""

    def _check_drained(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if not self._client_left(call):
            return "but the client stayed"
        if answer is None:
            return "but the upstream did not respond"
        if answer["usage_sent"]:
            return "" if usage == Usage(**answer["usage"]) else "with other usage"
        return self._between(usage, answer, answer["content_bytes"])

    def _check_estimated(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if answer is None or answer["plan"] != "no_usage" or call.how == "refused":
            return "but usage was to come"
        return self._between(usage, answer, answer["content_bytes"])

    def _check_cancelled(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if not self._client_left(call):
            return "but the client stayed"
        return "" if answer is None else self._between(usage, answer, 0)

    def _check_failed(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if call.how == "whole":
            return "but the client has a response"
        served = call.attempts and call.attempts[-1]["plan"] in ("whole", "no_usage")
        late = row["error_kind"] == "upstream_timeout" and _was_late(call)
        if served and not late and not self._stood_still(call):
            return "but the upstream did not fail"
        return "" if answer is None else self._between(usage, answer, 0)

    def _check_insured(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        why = self._check_failed(call, row, usage, answer)
        return why or ("but is charged" if row["cost_nanousd"] else "")

    def _check_abandoned(
        self, call: Call, row: dict[str, Any], usage: Usage, answer: dict[str, Any] | None
    ) -> str:
        if not call.attempts:
            return self._check_unseen(call, row)
        killed_at = self._killed_at(call)
        if killed_at is None:
            return "but its worker lives"
        killed_at = self._still_since(call, killed_at)
        if call.how == "whole" and killed_at > call.ended + SETTLE_S:
            return "but had time to settle"
        last = call.attempts[-1]
        heard = self._last_heard(killed_at)
        due = [size for at, size in last["marks"] if at <= heard]
        if due and not row["user_agent"]:
            return "left no trace"
        sent = Usage(**last["usage"]) if last["usage_sent"] else _guessed(last)
        self.not_charged_nanousd += max(0, cost_nanousd(sent, PRICES) - row["cost_nanousd"])
        if answer is None:
            return "" if usage.output == 0 else "with output from nowhere"
        return self._between(usage, answer, due[-1] if due else 0)

    def _check_unseen(self, call: Call, row: dict[str, Any]) -> str:
        """Check a call that was admitted, but whose worker died before it asked the upstream."""
        near = any(
            call.began <= at <= max(call.ended, call.began + SETTLE_S)
            for at in self._worker_kills.values()
        )
        return "" if near and call.how != "whole" else "but the upstream never saw it"

    def _stood_still(self, call: Call) -> bool:
        """Return whether a worker that asked the upstream for this call was paused during it."""
        asked = {attempt["worker"] for attempt in call.attempts}
        ended = call.ended or call.next_began
        return any(
            (pause.pid in asked or 0 in asked or not asked)
            and pause.at <= ended + SETTLE_S
            and call.began <= pause.until + SETTLE_S
            for pause in self._pauses
        )

    def _client_left(self, call: Call) -> bool:
        """Return whether the client left, if only since its worker stood still for too long."""
        return call.how in ("left", "killed") or (call.how == "hung" and self._stood_still(call))

    def _still_since(self, call: Call, killed_at: float) -> float:
        """Return since when a killed worker had said nothing: it may have been paused before."""
        asked = {attempt["worker"] for attempt in call.attempts}
        at = killed_at
        for pause in sorted(self._pauses, key=lambda pause: -pause.at):  # one upon the other
            if pause.pid in asked and pause.at <= at <= pause.until + SETTLE_S:
                at = pause.at
        return at

    def _last_heard(self, killed_at: float) -> float:
        """Return the earliest time of the last renewal of a killed worker's call."""
        at = killed_at
        for outage in (*self._outages, *self._freezes):
            if outage.at <= killed_at <= outage.until + AWAY_AFTER_S + self._renew_s:
                at = min(at, outage.at - (AOF_S if outage in self._outages else 0))
        return at - self._renew_s - SLACK_S

    def _between(self, usage: Usage, answer: dict[str, Any], least_bytes: int) -> str:
        """Say what is wrong with usage that must lie between some and all that was sent."""
        if answer["usage_sent"] and usage == Usage(**answer["usage"]):
            return ""
        most = -(-answer["content_bytes"] // 4)
        if usage.output > max(most, 1):
            return f"output above the {most} sent"
        if usage.output < least_bytes // 4:
            return f"output below the {least_bytes // 4} sent"
        # All prompts are of one size, so an estimate is a mean of what the upstream reported.
        if usage.input + usage.cache_read + usage.cache_write > self._most_input + 2:
            return "with too much input"
        return ""


def _was_late(call: Call) -> bool:
    """Return whether the upstream itself said nothing for as long as its clock allows."""
    for attempt in call.attempts:
        times = [call.began, attempt["at"], *(at for at, _ in attempt["marks"])]
        if any(after - before >= IDLE_S for before, after in pairwise(times)):
            return True
    return False


def _guessed(attempt: dict[str, Any]) -> Usage:
    return Usage(output=-(-attempt["content_bytes"] // 4))


def usage_of(row: dict[str, Any]) -> Usage:
    """Return a row's usage."""
    return Usage(
        input=row["input_tokens"],
        cache_read=row["cache_read_tokens"],
        cache_write=row["cache_write_tokens"],
        output=row["output_tokens"],
        reasoning=row["reasoning_tokens"],
    )
