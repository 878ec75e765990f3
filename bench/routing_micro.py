"""
CPU of planning one call over five deployments, with health and conversations.

    python -m bench.routing_micro [calls]

Prints microseconds of CPU per call, the best of five runs, for: the plan of a model with one
deployment; five equally cheap ones without and with a conversation named by a header, and one known
by its first message; one of five out; a client's preference. `health` is what each attempt adds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model, Prices, Wire
from gateway.core.routing.health import HealthRules
from gateway.core.routing.retries import RetryBudget
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.router import Router
from gateway.protocols.http.request.conversation import conversation_of
from gateway.protocols.http.request.fields import decode_call
from tests.support.pipeline_fakes import a_deployment, a_model, a_provider

BODY = (
    b'{"model":"m","messages":[{"role":"system","content":"You are helpful."},'
    b'{"role":"user","content":"What is the capital of France?"}],"max_tokens":64}'
)
HEADERS = [(b"host", b"gateway"), (b"authorization", b"Bearer sk-capio-live-x"), (b"accept", b"*")]
SESSION = (b"x-session-id", b"0f6d4c0e-7d0f-4ad0-9d0b-2a52e2f2b7aa")
RUNS = 5


def a_router(count: int) -> tuple[Router, Model, HealthBoard]:
    cost = Prices(10, 20, 1, 1, 20)
    model = a_model(*(a_deployment(a_provider(f"p{number}"), cost) for number in range(count)))
    providers = tuple(each.provider for each in model.deployments)
    catalogue = Catalogue("", (model,), providers, {"m": model})
    board = HealthBoard(HealthRules(), "bench")
    board.keep(catalogue)
    return Router(catalogue, board), model, board


def measure(name: str, work: Callable[[], object], calls: int) -> float:
    best = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, (time.process_time() - began) / calls * 1e6)
    print(f"{name:44} {best:6.2f} us")
    return best


def main(calls: int) -> None:
    chat, fields = Endpoint.CHAT_COMPLETIONS, decode_call(BODY, Wire.OPENAI)

    def planning(router: Router, model: Model, *more: tuple[bytes, bytes]) -> Callable[[], object]:
        headers = [*HEADERS, *more]

        def conversation() -> int | None:
            return conversation_of(headers, fields, Wire.OPENAI, BODY)

        def work() -> object:
            wishes = router.preferences(model, headers)
            return router.route(model, chat, wishes, conversation)

        return work

    single, single_model, _ = a_router(1)
    router, model, board = a_router(5)
    plain = Router(Catalogue("", (model,), (), {}), board, affinity=False)
    measure("one deployment", planning(single, single_model), calls)
    measure("five, no conversations", planning(plain, model), calls)
    measure("five, conversation by header", planning(router, model, SESSION), calls)
    measure("five, conversation by first message", planning(router, model), calls)
    measure(
        "five, a provider preferred", planning(router, model, (b"x-capio-prefer", b"p3")), calls
    )
    health, budget = board.of("p1/p1-m"), RetryBudget(20, 10)

    def attempt() -> None:
        budget.record_call(time.monotonic())
        health.in_flight += 1
        health.in_flight -= 1
        board.attempt_succeeded(board.of(health.label), 0.3)

    measure("health of one attempt", attempt, calls)
    board.of("p1/p1-m").open(time.monotonic())
    measure("five, one of them out", planning(router, model, SESSION), calls)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
