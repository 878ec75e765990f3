"""LiteLLM, Portkey and Ferro: gateways for language models, without what costs them a database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.harness.processes import TreeClock
from bench.harness.systems import Can, System
from bench.peers.process import Place, installed, python_version, running
from bench.peers.routers import SOME_STREAMS
from tests.support.gateway_process import free_port

LITELLM_KEY: Final = "sk-bench"
FEW_STREAMS: Final = 200
FEW_REQUESTS: Final = 100.0
"""A second. What LiteLLM and Portkey are not asked to exceed: one core serves few hundred calls."""
LITELLM_CONFIG: Final = """
model_list:
{models}
litellm_settings:
  drop_params: true
general_settings:
  master_key: {key}
"""
LITELLM_MODEL: Final = """\
  - model_name: {name}
    litellm_params: {{ model: openai/{name}, api_base: "{base}/v1", api_key: unused }}
  - model_name: to-openai-{name}
    litellm_params: {{ model: hosted_vllm/{name}, api_base: "{base}/v1", api_key: unused }}
  - model_name: to-anthropic-{name}
    litellm_params: {{ model: anthropic/{name}, api_base: "{base}", api_key: unused }}
"""
FERRO_KEY: Final = "fgw_0123456789abcdef0123456789abcdef"
FERRO_CONFIG: Final = """
strategy: {{ mode: single }}
targets:
  - {{ virtual_key: openai, models: {models} }}
"""


@contextmanager
def litellm(place: Place) -> Iterator[System]:
    """Run LiteLLM's proxy with one worker, a master key, and no database."""
    binary = installed("litellm", "bin/litellm")
    port = free_port()
    place.home.mkdir()
    base = f"http://127.0.0.1:{place.upstream.port}"
    listed = "".join(LITELLM_MODEL.format(name=name, base=base) for name in place.models)
    path = place.home / "litellm.yaml"
    path.write_text(LITELLM_CONFIG.format(models=listed, key=LITELLM_KEY))
    command = [
        *(str(binary), "--config", str(path), "--port", str(port)),
        *("--host", "127.0.0.1", "--num_workers", "1"),
    ]
    # Without this it fetches its price list from the internet at the start.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(command, place, port, environment) as pid:
        yield System(
            "litellm", port, TreeClock(pid), LITELLM_KEY, can=frozenset({Can.TRANSLATE}), root=pid,
            most_streams=FEW_STREAMS, most_rate=FEW_REQUESTS,
            about=python_version("litellm", "litellm"),
        )  # fmt: skip


@contextmanager
def portkey(place: Place) -> Iterator[System]:
    """Run Portkey's gateway; it has no keys of its own, requests name the upstream."""
    package = installed("portkey", "node_modules/@portkey-ai/gateway")
    port = free_port()
    place.home.mkdir()
    command = ["node", str(package / "build/start-server.js"), f"--port={port}", "--headless"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{place.upstream.port}/v1",
    }
    # Without this it refuses upstreams on the loopback.
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    about = json.loads((package / "package.json").read_text())["version"]
    with running(command, place, port, environment) as pid:
        yield System(
            "portkey", port, TreeClock(pid), headers=headers, root=pid, about=about,
            most_streams=FEW_STREAMS, most_rate=FEW_REQUESTS,
        )  # fmt: skip


@contextmanager
def ferro(place: Place) -> Iterator[System]:
    """Run Ferro Labs' gateway, which compares the key with its master key; nothing is stored."""
    binary = installed("ferro", "bin/ferrogw")
    port = free_port()
    place.home.mkdir()
    path = place.home / "config.yaml"
    path.write_text(FERRO_CONFIG.format(models=json.dumps(place.models)))
    environment = {
        "PORT": str(port),
        "GATEWAY_CONFIG": str(path),
        "MASTER_KEY": FERRO_KEY,
        "OPENAI_API_KEY": "unused",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{place.upstream.port}/v1",
        "LOG_LEVEL": "error",
        # By default an address gets 429 after some calls a second.
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
    }
    with running([str(binary), "serve"], place, port, environment) as pid:
        yield System(
            "ferro", port, TreeClock(pid), FERRO_KEY, can=frozenset({Can.MESSAGES}), root=pid,
            most_streams=SOME_STREAMS,
            about=python_version("ferro", "ferrogw"),
        )  # fmt: skip
