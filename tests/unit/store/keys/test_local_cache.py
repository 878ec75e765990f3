"""What a worker remembers of keys: bounded, short-lived, and only as long as it is proven."""

from __future__ import annotations

import timeit
from collections.abc import Iterator

import pytest

from gateway.core.model import Principal
from gateway.store.keys.local_cache import PROOF_S, UNPROVEN_S, LocalKeyCache, LocalKeyEntry, Proof


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    yield Clock()


def principal(version: int = 1) -> Principal:
    return Principal("key_1", "acc_1", "laptop", "active", version)


def found(entry: LocalKeyEntry | None) -> Principal | None:
    assert entry is not None
    return entry.principal


def test_find_proven_serves_until_the_entry_expires(clock: Clock) -> None:
    """With proof an entry serves for its whole life and not longer."""
    proof = Proof()
    cache = LocalKeyCache(10, 30.0, proof, clock)
    cache.keep(b"d", principal(), clock.now, certain=True)

    clock.now += 29.9
    proof.extend(clock.now)
    assert found(cache.find(b"d")) == principal()

    clock.now += 0.2
    assert cache.find(b"d") is None


def test_find_without_proof_serves_shortly(clock: Clock) -> None:
    """An entry that no subscription watches is soon asked for again."""
    cache = LocalKeyCache(10, 30.0, Proof(), clock)
    cache.keep(b"d", principal(), clock.now, certain=True)

    clock.now += UNPROVEN_S - 0.01
    assert cache.find(b"d") is not None

    clock.now += 0.02
    assert cache.find(b"d") is None


def test_find_proof_lapses_unless_extended(clock: Clock) -> None:
    """Silence of the subscription ends what is remembered within one second of a lost change."""
    proof = Proof()
    cache = LocalKeyCache(10, 30.0, proof, clock)
    cache.keep(b"d", principal(), clock.now, certain=True)
    proof.extend(clock.now)

    clock.now += PROOF_S
    assert cache.find(b"d") is None

    proof.extend(clock.now)
    assert cache.find(b"d") is not None
    proof.withdraw()
    assert cache.find(b"d") is None
    assert PROOF_S < 1 and UNPROVEN_S < 1


def test_find_uncertain_entry_serves_shortly_in_spite_of_proof(clock: Clock) -> None:
    """A response during which a change may have been missed is not kept long."""
    proof = Proof()
    cache = LocalKeyCache(10, 30.0, proof, clock)
    cache.keep(b"d", principal(), clock.now, certain=False)

    clock.now += UNPROVEN_S
    proof.extend(clock.now)

    assert cache.find(b"d") is None


def test_keep_beyond_the_bound_drops_the_least_recently_used(clock: Clock) -> None:
    """The cache never holds more than its bound, and what is used stays."""
    cache = LocalKeyCache(2, 30.0, Proof(), clock)
    cache.keep(b"a", principal(), clock.now, certain=True)
    cache.keep(b"b", principal(), clock.now, certain=True)
    cache.find(b"a")

    cache.keep(b"c", principal(), clock.now, certain=True)

    assert [cache.find(d) is not None for d in (b"a", b"b", b"c")] == [True, False, True]


def test_full_counts_only_entries_that_still_serve(clock: Clock) -> None:
    """A cache whose entries have expired is not full."""
    cache = LocalKeyCache(1, 30.0, Proof(), clock)
    assert not cache.full

    cache.keep(b"a", None, clock.now, certain=True)
    assert cache.full

    clock.now += 30
    assert not cache.full


def test_drop_forgets_older_versions_only(clock: Clock) -> None:
    """A message about a known version drops no entry."""
    cache = LocalKeyCache(10, 30.0, Proof(), clock)
    cache.keep(b"d", principal(version=2), clock.now, certain=True)
    cache.keep(b"none", None, clock.now, certain=True)

    cache.drop(b"d", 2)
    assert cache.version(b"d") == 2
    cache.drop(b"d", 3)
    cache.drop(b"none", 1)
    cache.drop(b"unknown", 1)

    assert cache.find(b"d") is None
    assert cache.find(b"none") is None


def test_find_is_cheap() -> None:
    """A look-up takes some hundred nanoseconds; the limit leaves room for a busy machine."""
    import time

    proof = Proof()
    cache = LocalKeyCache(50_000, 30.0, proof, time.monotonic)
    digests = [number.to_bytes(32, "big") for number in range(10_000)]
    for digest in digests:
        cache.keep(digest, principal(), time.monotonic(), certain=True)
    proof.extend(time.monotonic() + 60)

    best = min(timeit.repeat(lambda: cache.find(digests[77]), number=1000, repeat=20)) / 1000

    assert best < 5e-6
