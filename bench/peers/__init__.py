"""Other proxies and gateways that `bench.run --peer` measures in the same run."""

from collections.abc import Mapping
from typing import Final

from bench.peers.gateways import ferro, litellm, portkey
from bench.peers.process import Peer
from bench.peers.proxies import envoy, haproxy
from bench.peers.routers import sglang_router, vllm_router

PEERS: Final[Mapping[str, Peer]] = {
    "haproxy": haproxy,
    "envoy": envoy,
    "vllm-router": vllm_router,
    "sglang-router": sglang_router,
    "ferro": ferro,
    "litellm": litellm,
    "portkey": portkey,
}
