"""
CPU of planning one call over five deployments, with health and conversations.

    python -m bench.micro.routing [calls]

Prints microseconds of CPU per call: the best and the median of nine rounds, in each of which all
cases are measured in turn, and what the best adds to the plan of a model with one deployment. The
cases: five equally cheap deployments without and with a conversation named by a header, and one
known by its first message, on both wires; one of five out; a client's preference; what the health
of each attempt takes, planned with five deployments or with one.
"""

from __future__ import annotations

import argparse
import statistics
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
ANTHROPIC_BODY = (
    b'{"model":"m","max_tokens":64,"system":"You are helpful.",'
    b'"messages":[{"role":"user","content":"What is the capital of France?"}]}'
)
HEADERS = [(b"host", b"gateway"), (b"authorization", b"Bearer sk-capio-live-x"), (b"accept", b"*")]
SESSION = (b"x-session-id", b"0f6d4c0e-7d0f-4ad0-9d0b-2a52e2f2b7aa")
RUNS = 9


def a_router(count: int) -> tuple[Router, Model, HealthBoard]:
    cost = Prices(10, 20, 1, 1, 20)
    wires = (Wire.OPENAI, Wire.ANTHROPIC)
    model = a_model(
        *(a_deployment(a_provider(f"p{number}", wires), cost) for number in range(count))
    )
    providers = tuple(each.provider for each in model.deployments)
    catalogue = Catalogue("", (model,), providers, {"m": model})
    board = HealthBoard(HealthRules(), "bench")
    board.keep(catalogue)
    return Router(catalogue, board), model, board


def measure(cases: dict[str, Callable[[], object]], calls: int) -> None:
    """Measure all cases in turn, several times, and print what they take."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, work in cases.items():
            began = time.process_time()
            for _ in range(calls):
                work()
            taken[name].append((time.process_time() - began) / calls * 1e6)
    single = min(next(iter(taken.values())))
    print(f"{'':44}   best  median  added")
    for name, values in taken.items():
        best, median = min(values), statistics.median(values)
        print(f"{name:44} {best:6.2f}  {median:6.2f} {best - single:6.2f}")


def main(calls: int) -> None:
    chat, messages = Endpoint.CHAT_COMPLETIONS, Endpoint.MESSAGES

    def planning(
        router: Router,
        model: Model,
        *more: tuple[bytes, bytes],
        endpoint: Endpoint = chat,
        body: bytes = BODY,
    ) -> Callable[[], object]:
        headers, wire, fields = [*HEADERS, *more], endpoint.wire, decode_call(body, endpoint.wire)

        def conversation() -> int | None:
            return conversation_of(headers, fields, wire, body)

        def work() -> object:
            wishes = router.preferences(model, headers)
            return router.route(model, endpoint, wishes, conversation)

        return work

    single, single_model, _ = a_router(1)
    router, model, board = a_router(5)
    worse, worse_model, worse_board = a_router(5)
    worse_board.of("p1/p1-m").open(time.monotonic())
    plain = Router(Catalogue("", (model,), (), {}), board, affinity=False)
    health, budget = board.of("p1/p1-m"), RetryBudget(20, 10)

    def attempt() -> None:
        budget.record_call(time.monotonic())
        health.in_flight += 1
        health.in_flight -= 1
        board.attempt_succeeded(board.of(health.label), 0.3)

    cases = {
        "one deployment": planning(single, single_model),
        "five, no conversations": planning(plain, model),
        "five, conversation by header": planning(router, model, SESSION),
        "five, conversation by first message": planning(router, model),
        "the same, Anthropic wire": planning(router, model, endpoint=messages, body=ANTHROPIC_BODY),
        "five, a provider preferred": planning(router, model, (b"x-capio-prefer", b"p3")),
        "five, one of them out": planning(worse, worse_model, SESSION),
        "the same, conversation by first message": planning(worse, worse_model),
        "health of one attempt": attempt,
    }
    measure(cases, calls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Planning of calls, see the module.")
    parser.add_argument("calls", type=int, nargs="?", default=20_000)
    main(parser.parse_args().calls)
