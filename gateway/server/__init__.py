"""The processes of one gateway: `serve` runs a configuration, `demo` one that needs no account."""

from gateway.server.demonstration import demo
from gateway.server.start import serve

__all__ = ["demo", "serve"]
