"""
Decides when a call is hedged: the delay of each deployment, and the budget of each model.

Pure; it covers one worker's response times and calls.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.core.model import HedgeRules

FEWEST_TIMES: Final = 20
"""A deployment with fewer known responses is not hedged."""
MOST_DELAY_S: Final = 30.0
"""A deployment whose usual responses are slower is not hedged."""
_KEPT_TIMES: Final = 128
_SLOW: Final = 0.95
_REFRESH: Final = 8
"""The percentile is computed anew after this many responses."""
_HEDGE: Final = 100.0
_MOST_SAVED: Final = 10 * _HEDGE


class ResponseTimes:
    """The last response times of a deployment, and their 95th percentile."""

    __slots__ = ("_slow_s", "_stale", "_times")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._slow_s = 0.0
        self._stale = 0

    def add(self, seconds: float) -> None:
        """
        Add the time of a response.

        An attempt that was cancelled because another one was faster counts with its time until
        then: without these times, the percentile would shrink with every hedge.
        """
        self._times.append(seconds)
        self._stale -= 1

    def slow_s(self) -> float | None:
        """Return the 95th percentile; None while too few responses are known."""
        count = len(self._times)
        if count < FEWEST_TIMES:
            return None
        if self._stale <= 0:
            self._slow_s = sorted(self._times)[int(count * _SLOW)]
            self._stale = _REFRESH
        return self._slow_s


class HedgeBudget:
    """Permits hedges up to a share of a model's calls; unused ones are saved for a short burst."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = 0.0

    def record_call(self, percent: float) -> None:
        """Count a call, which adds `percent` of one hedge to the budget."""
        self._saved = min(self._saved + percent, _MOST_SAVED)

    def try_hedge(self) -> bool:
        """Return whether a hedge is within the budget, and count it."""
        if self._saved < _HEDGE:
            return False
        self._saved -= _HEDGE
        return True


class Hedging:
    """The response times and budgets of one worker, kept when the catalogue is replaced."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, bool], ResponseTimes] = {}
        self._budgets: dict[str, HedgeBudget] = {}

    def keep(self, models: frozenset[str], labels: frozenset[str]) -> None:
        """Keep these models and deployments, and remove all others."""
        self._budgets = {name: each for name, each in self._budgets.items() if name in models}
        self._times = {key: each for key, each in self._times.items() if key[0] in labels}

    def record_call(self, model: str, rules: HedgeRules) -> None:
        """Count a call of a model with hedging."""
        budget = self._budgets.get(model)
        if budget is None:
            budget = self._budgets[model] = HedgeBudget()
        budget.record_call(rules.budget_percent)

    def try_hedge(self, model: str) -> bool:
        """Return whether a hedge is within the model's budget, and count it."""
        budget = self._budgets.get(model)
        return budget is not None and budget.try_hedge()

    def learn(self, label: str, seconds: float, *, stream: bool) -> None:
        """Add the response time of a deployment: to its first content, or of a whole response."""
        times = self._times.get((label, stream))
        if times is None:
            times = self._times[label, stream] = ResponseTimes()
        times.add(seconds)

    def delay_s(self, label: str, rules: HedgeRules, *, stream: bool) -> float | None:
        """Return how long a deployment may take before the call is hedged; None: unknown."""
        times = self._times.get((label, stream))
        slow_s = None if times is None else times.slow_s()
        if slow_s is None or slow_s > MOST_DELAY_S:
            return None
        return max(slow_s, rules.min_delay_s)
