"""Of several credentials, one that works is used until it is rejected."""

from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.failures import FailureClass


def test_pick_keeps_to_a_credential_that_works() -> None:
    """Prompt caches belong to an account: the keys do not take turns."""
    rotation = CredentialRotation(3)

    assert [rotation.pick(float(now)) for now in range(5)] == [0] * 5


def test_rejected_credential_rests_and_the_next_is_used() -> None:
    """After its rest the rejected key is used again only when the next one fails."""
    rotation = CredentialRotation(2)

    assert rotation.rest(0, FailureClass.CREDENTIAL, None, 100.0)
    assert rotation.pick(100.0) == 1
    assert rotation.pick(399.0) == 1
    assert rotation.pick(401.0) == 1
    assert rotation.rest(1, FailureClass.RATE_LIMIT, 2.0, 401.0)
    assert rotation.pick(401.0) == 0


def test_rest_lasts_as_long_as_the_upstream_says() -> None:
    """`retry-after` of a 429 sets the rest of that key."""
    rotation = CredentialRotation(2)
    rotation.rest(0, FailureClass.RATE_LIMIT, 60.0, 0.0)

    assert not rotation.rest(1, FailureClass.RATE_LIMIT, 5.0, 1.0)
    assert rotation.pick(2.0) == 1, "all rest: the one that is ready first"
    assert rotation.pick(6.5) == 1
    rotation.rest(1, FailureClass.QUOTA, None, 6.5)
    assert rotation.pick(7.0) == 0


def test_rest_is_bounded() -> None:
    """A `retry-after` of a year does not cost a key for a year."""
    rotation = CredentialRotation(2, longest_rest_s=60.0)
    rotation.rest(0, FailureClass.RATE_LIMIT, 31_536_000.0, 0.0)
    rotation.rest(1, FailureClass.CREDENTIAL, None, 0.0)

    assert rotation.pick(60.0) == 0


def test_restored_credential_is_ready() -> None:
    """A key that has worked does not rest."""
    rotation = CredentialRotation(2)
    rotation.rest(0, FailureClass.QUOTA, None, 0.0)
    rotation.restore(0)

    assert rotation.pick(1.0) == 0
