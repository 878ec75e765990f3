"""Routes of calls: health, preferences, and what remains when nothing is ready."""

from __future__ import annotations

from time import monotonic

import msgspec
import pytest

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model, Prices, Wire
from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import HealthRules
from gateway.core.routing.order import Failure
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.probe_rights import ProbeRights
from gateway.pipeline.routing.route import Route
from gateway.pipeline.routing.router import Router
from tests.support.pipeline_fakes import a_deployment, a_model, a_provider

CHAT = Endpoint.CHAT_COMPLETIONS
PRICES = [Prices(price, price, 0, 0, 0) for price in (1, 2, 2, 3)]


class Scene:
    """Four deployments, a the cheapest, b and c equal, d the dearest, and their router."""

    def __init__(self, *, rights: ProbeRights | None = None, preferences: bool = True) -> None:
        deployments = [
            msgspec.structs.replace(a_deployment(a_provider(name), price), tags=frozenset({tag}))
            for name, price, tag in zip("abcd", PRICES, ("eu", "eu", "us", "us"), strict=True)
        ]
        self.model: Model = a_model(*deployments)
        providers = tuple(each.provider for each in deployments)
        catalogue = Catalogue("", (self.model,), providers, {"m": self.model})
        self.board = HealthBoard(HealthRules(failures_to_open=1, open_s=0.0), "w")
        self.board.keep(catalogue)
        self.router = Router(
            catalogue,
            self.board,
            preferences=preferences,
            rights=rights,
            draw=lambda: 0.0,
        )

    def fail(self, name: str, kind: FailureClass, retry_after_s: float | None = None) -> None:
        failure = Failure(kind, 500, retry_after_s)
        for _ in range(2):  # in a row: a single refusal without a time changes nothing
            self.board.attempt_failed(self.board.of(f"{name}/{name}-m"), failure)

    def route(self, conversation: int | None = None, **headers: bytes) -> Route:
        pairs = [(b"x-capio-" + name.encode(), value) for name, value in headers.items()]
        wishes = self.router.preferences(self.model, pairs)
        return self.router.route(self.model, CHAT, wishes, lambda: conversation)


def names(route: Route) -> str:
    return "".join(candidate.deployment.provider.name for candidate in route.candidates)


def test_all_ready_deployments_are_ordered_by_cost() -> None:
    """The default policy, as all costs are known."""
    assert names(Scene().route()) == "abcd"


@pytest.mark.parametrize(
    "kind",
    [
        FailureClass.NETWORK,
        FailureClass.TIMEOUT,
        FailureClass.OVERLOAD,
        FailureClass.RATE_LIMIT,
        FailureClass.CREDENTIAL,
        FailureClass.QUOTA,
    ],
)
def test_deployment_that_is_not_ready_is_left_out(kind: FailureClass) -> None:
    """Not even as a fallback: it would cost each call its time."""
    scene = Scene()
    scene.fail("a", kind)

    assert names(scene.route()) == "bcd"


def test_conversation_never_stays_against_health() -> None:
    """The holder is out: its conversations go to the other equal deployment."""
    scene = Scene()
    scene.fail("a", FailureClass.NETWORK)
    holders = {conversation: names(scene.route(conversation))[0] for conversation in range(40)}
    assert set(holders.values()) == {"b", "c"}

    scene.fail("b", FailureClass.NETWORK)

    assert {names(scene.route(conversation))[0] for conversation in range(40)} == {"c"}


def test_preferences_choose_among_the_deployments() -> None:
    """A provider first, only a tag, without a tag; together too."""
    scene = Scene()

    assert names(scene.route(prefer=b"d")) == "dabc"
    assert names(scene.route(only=b"us")) == "cd"
    assert names(scene.route(exclude=b"a, us")) == "b"
    assert names(scene.route(only=b"us", prefer=b"d")) == "dc"
    scene.board.of("d/d-m").ttft_s = 0.5
    for name in "abc":
        scene.board.of(f"{name}/{name}-m").ttft_s = 1.0
    scene.router._draw = lambda: 0.5
    assert names(scene.route(prefer=b"latency"))[0] == "d"


def test_preferences_that_leave_nothing_are_an_error() -> None:
    """Not another deployment than those the client demands."""
    with pytest.raises(GatewayError) as raised:
        Scene().route(only=b"a", exclude=b"eu")

    assert raised.value.kind is ErrorKind.BAD_REQUEST


def test_refused_preferences_are_an_error() -> None:
    """An operator may disable them."""
    with pytest.raises(GatewayError):
        Scene(preferences=False).route(prefer=b"cost")


def test_call_with_no_ready_deployment_has_one_last_resort() -> None:
    """A guessed rest before an open breaker before a refused credential; one attempt only."""
    scene = Scene()
    scene.fail("a", FailureClass.QUOTA)
    scene.fail("b", FailureClass.NETWORK)
    scene.fail("c", FailureClass.OVERLOAD)
    scene.fail("d", FailureClass.CREDENTIAL)

    assert (names(scene.route()), scene.route().last_resort) == ("c", True)
    assert names(scene.route(only=b"a,b")) == "b"
    assert names(scene.route(only=b"a")) == "a"


def test_call_is_refused_while_all_upstreams_demand_rest() -> None:
    """503 with the earliest `retry-after`: asking again would break what the upstreams said."""
    scene = Scene()
    for name, seconds in zip("abcd", (40.0, 20.0, 30.0, 50.0), strict=True):
        scene.fail(name, FailureClass.RATE_LIMIT, seconds)

    with pytest.raises(GatewayError) as raised:
        scene.route()

    assert raised.value.kind is ErrorKind.OVERLOADED
    assert raised.value.retry_after_s == pytest.approx(20, abs=0.5)


def test_single_call_tests_what_is_out_without_probes() -> None:
    """One call at a time tries the deployment; the next ones avoid it."""
    scene = Scene(rights=ProbeRights(None))
    scene.fail("a", FailureClass.NETWORK)

    assert [names(scene.route()) for _ in range(3)] == ["abcd", "bcd", "bcd"]
    scene.board.attempt_succeeded(scene.board.of("a/a-m"), None)
    assert names(scene.route()) == "abcd"


def test_call_tests_one_deployment_and_tries_it_first() -> None:
    """A later candidate might never be tried, and its probe have no outcome."""
    scene = Scene(rights=ProbeRights(None))
    scene.fail("c", FailureClass.NETWORK)
    scene.fail("d", FailureClass.NETWORK)

    assert [names(scene.route()) for _ in range(3)] == ["cab", "dab", "ab"]


def test_client_that_excludes_a_deployment_does_not_test_it() -> None:
    """It is permitted no call, not even one for the gateway's own ends."""
    scene = Scene(rights=ProbeRights(None))
    scene.fail("c", FailureClass.NETWORK)

    assert names(scene.route(exclude=b"c")) == "abd"
    assert names(scene.route()) == "cabd"


def test_remaining_deployments_are_ranked_once() -> None:
    """The same route serves all calls as long as the same deployments are ready."""
    scene = Scene()
    scene.fail("a", FailureClass.NETWORK)
    first, again = scene.route(7), scene.route(7)
    assert names(first) in ("bcd", "cbd")
    assert again is first

    scene.board.probe_succeeded(scene.board.of("a/a-m"))
    scene.fail("b", FailureClass.NETWORK)
    assert names(scene.route(7)) == "acd"


def test_conversation_moves_only_if_its_deployment_is_not_ready() -> None:
    """Of b and c, which are equal, the failing one loses its conversations and gets them back."""
    scene = Scene()
    scene.fail("a", FailureClass.NETWORK)
    before = {number: names(scene.route(number)) for number in range(200)}
    scene.fail("d", FailureClass.NETWORK)
    assert {number: names(scene.route(number))[0] for number in range(200)} == {
        number: route[0] for number, route in before.items()
    }
    assert 60 < sum(route[0] == "b" for route in before.values()) < 140


def test_rest_that_is_over_needs_no_probe() -> None:
    """Time alone makes a resting deployment ready."""
    scene = Scene()
    health = scene.board.of("a/a-m")
    health.rest(monotonic() + 100, monotonic(), demanded=True)
    assert names(scene.route()) == "bcd"

    health.rests_until = monotonic() - 0.001
    assert names(scene.route()) == "abcd"


def test_endpoint_without_deployments_has_a_reason() -> None:
    """Chat deployments on the other wire do not serve embeddings."""
    deployment = a_deployment(a_provider("x", [Wire.ANTHROPIC]))
    model = a_model(deployment)
    catalogue = Catalogue("", (model,), (deployment.provider,), {"m": model})
    router = Router(catalogue, HealthBoard(HealthRules(), "w"))

    route = router.route(model, Endpoint.EMBEDDINGS)

    assert (route.candidates, route.plan.is_final) == ((), True)
