"""The lower of each two limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import NO_LIMITS, Limits, tightest

AMOUNTS = st.none() | st.integers(1, 9)
LIMITS = st.builds(Limits, **dict.fromkeys(Limits.__struct_fields__, AMOUNTS))


@given(LIMITS, LIMITS)
def test_tightest_limits_refuse_what_either_refuses(first: Limits, second: Limits) -> None:
    """And nothing else: each is one of the two, and none is above either."""
    found = tightest(first, second)

    for name in Limits.__struct_fields__:
        pair = {getattr(first, name), getattr(second, name)} - {None}
        assert getattr(found, name) == min(pair, default=None)
    assert tightest(found, NO_LIMITS) == found
