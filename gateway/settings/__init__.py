"""
The configuration: `load` turns a TOML file into `Settings` or reports every mistake in it.

Secrets never stand in the file; `resolve_secrets` fetches them from where the file says they are.
"""

from gateway.settings.schema import (
    Brand,
    Deployment,
    Dialect,
    Keys,
    Metrics,
    Model,
    Prices,
    Provider,
    Redis,
    Section,
    Server,
    Settings,
    Sql,
    Timeouts,
    WireEndpoint,
)

__all__ = [
    "Brand",
    "Deployment",
    "Dialect",
    "Keys",
    "Metrics",
    "Model",
    "Prices",
    "Provider",
    "Redis",
    "Section",
    "Server",
    "Settings",
    "Sql",
    "Timeouts",
    "WireEndpoint",
]
