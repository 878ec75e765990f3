"""What a call holds: the expected tokens and cost, and the most that it can cost."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Endpoint, Prices
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Money
from gateway.store.limits.sizing import MOST_NANOUSD, ReservationSizer
from tests.support.metering import MODEL, ask_for


def size(request: ReservationRequest, room: int | None = None) -> Reservation:
    """Return the reservation of a call whose account has this room."""
    return ReservationSizer(Money(), lambda _: room).size(request)


def test_token_count_holds_nothing() -> None:
    """A token count costs nothing and takes no tokens."""
    request = msgspec.structs.replace(ask_for(), endpoint=Endpoint.COUNT_TOKENS)

    held = size(request)

    assert (held.hold_nanousd, held.worst_nanousd, held.tokens) == (0, 0, 0)


def test_call_holds_its_expected_tokens() -> None:
    """Input and the output of all choices are held, at a nano-dollar for each token."""
    held = size(ask_for(input_tokens=10, max_tokens=20, choices=3))

    assert (held.tokens, held.hold_nanousd) == (70, 70)


@pytest.mark.parametrize(
    ("max_tokens", "output"),
    [(None, 100), (0, 100), (1, 64), (64, 64), (65, 65), (1000, 1000), (5000, 1000)],
)
def test_worst_case_has_the_longest_output(max_tokens: int | None, output: int) -> None:
    """The limit counts from 64 tokens up to the context; without one, that of the model does."""
    held = size(ask_for(max_tokens=max_tokens, choices=2))

    assert held.worst_nanousd == 1000 + 2 * output


@pytest.mark.parametrize(
    ("bound", "input_tokens", "counted"),
    [(None, 10, 1000), (300, 10, 300), (300, 400, 400), (2000, 10, 1000), (2000, 1500, 1500)],
)
def test_worst_case_of_an_account_with_little_room_is_close(
    bound: int | None, input_tokens: int, counted: int
) -> None:
    """The input is bounded by its body, at least by its estimate, instead of by the context."""
    request = ask_for(input_bound=bound, input_tokens=input_tokens, max_tokens=100)

    assert size(request, room=0).worst_nanousd == counted + 100


@pytest.mark.parametrize(("room", "worst"), [(None, 1100), (17_600, 1100), (17_599, 400)])
def test_body_is_bounded_only_if_room_is_scarce(room: int | None, worst: int) -> None:
    """With room for sixteen calls of a full context, the body is not read."""
    request = ask_for(input_bound=300, max_tokens=100)

    assert size(request, room=room).worst_nanousd == worst


def test_body_of_a_free_input_is_not_bounded() -> None:
    """If input costs nothing, its size does not change the worst case."""

    def unread() -> int:
        raise AssertionError("the body was read")

    free_input = Prices(input=0, output=10**6, cache_read=0, cache_write=0, reasoning=0)
    model = msgspec.structs.replace(MODEL, prices=free_input)
    request = msgspec.structs.replace(ask_for(model=model, max_tokens=100), input_bound=unread)

    assert size(request, room=0).worst_nanousd == 100


def test_hold_and_worst_case_stay_exact_in_scripts() -> None:
    """Both are at most nine million dollars, which a double represents exactly."""
    dear = Prices(input=10**16, output=10**16, cache_read=0, cache_write=0, reasoning=0)
    model = msgspec.structs.replace(MODEL, prices=dear, context=10**9)

    held = size(ask_for(model=model, input_tokens=10**9))

    assert held.hold_nanousd == held.worst_nanousd == MOST_NANOUSD == 9 * 10**15
