"""The routers of vLLM and SGLang, in Rust: they balance calls over engines of one model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.harness.processes import TreeClock
from bench.harness.systems import Can, System
from bench.peers.process import Place, installed, python_version, running
from tests.support.gateway_process import free_port

SOME_STREAMS: Final = 1000
"""More would lengthen a run without showing more."""
_MOST_AT_ONCE: Final = "100000"


@contextmanager
def vllm_router(place: Place) -> Iterator[System]:
    """Run vLLM's router before one worker."""
    with _router("vllm-router", "vllm-router", [], place) as system:
        yield system


@contextmanager
def sglang_router(place: Place) -> Iterator[System]:
    """Run SGLang's router before one worker."""
    command = ["launch", "--worker-startup-check-interval", "1"]
    with _router("sglang-router", "sglang-router", command, place) as system:
        yield system


@contextmanager
def _router(name: str, package: str, further: list[str], place: Place) -> Iterator[System]:
    binary = installed(name, f"bin/{name}")
    place.home.mkdir()
    port = free_port()
    command = [
        *(str(binary), *further, "--worker-urls", f"http://127.0.0.1:{place.upstream.port}"),
        *("--port", str(port), "--prometheus-port", str(free_port())),
        *("--policy", "round_robin", "--log-level", "error"),
        *("--max-concurrent-requests", _MOST_AT_ONCE),
    ]
    with running(command, place, port) as pid:
        yield System(
            name, port, TreeClock(pid), can=frozenset({Can.MESSAGES, Can.COUNT_TOKENS}),
            root=pid, about=python_version(name, package), most_streams=SOME_STREAMS,
        )  # fmt: skip
