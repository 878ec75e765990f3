"""
The configuration: `load` turns a TOML file into `Settings` or reports every error in it.

Secrets are never in the file; `resolve_secrets` reads them from where the file says they are.
"""

from gateway.settings.errors import ConfigError
from gateway.settings.loader import Loaded, load, load_sources, parse
from gateway.settings.rules import CapsCheck
from gateway.settings.schema import (
    Admin,
    Brand,
    Console,
    Credential,
    Deployment,
    Dialect,
    Hedge,
    Idempotency,
    Keys,
    LongContext,
    Metrics,
    Model,
    ModelTimeouts,
    Money,
    Oidc,
    Prices,
    Provider,
    Redis,
    Responses,
    Routing,
    Section,
    Server,
    Settings,
    Sql,
    Timeouts,
    WireEndpoint,
)
from gateway.settings.secrets import (
    ReadText,
    Secrets,
    Wanted,
    read_text,
    resolve_secrets,
    secret,
)
from gateway.settings.urls import HttpUrl, split_http_url

__all__ = [
    "Admin",
    "Brand",
    "CapsCheck",
    "ConfigError",
    "Console",
    "Credential",
    "Deployment",
    "Dialect",
    "Hedge",
    "HttpUrl",
    "Idempotency",
    "Keys",
    "Loaded",
    "LongContext",
    "Metrics",
    "Model",
    "ModelTimeouts",
    "Money",
    "Oidc",
    "Prices",
    "Provider",
    "ReadText",
    "Redis",
    "Responses",
    "Routing",
    "Secrets",
    "Section",
    "Server",
    "Settings",
    "Sql",
    "Timeouts",
    "Wanted",
    "WireEndpoint",
    "load",
    "load_sources",
    "parse",
    "read_text",
    "resolve_secrets",
    "secret",
    "split_http_url",
]
