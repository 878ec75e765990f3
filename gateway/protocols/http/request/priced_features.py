"""
Request features that an upstream charges separately from tokens, or at other prices.

Each is disabled unless the provider's settings allow it, so that no call costs more than the
catalogue's prices. Hints, which do not change the response, are dropped and listed in
`x-capio-dropped`. Features that the response depends on, such as hosted tools, are rejected.

The decoder that reads `model` also reads these fields, so requests without them cost nothing more.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.request.call_fields import PricedFields, PricedUse, _Tool

Header = tuple[bytes, bytes]


_HINTS: Final[Mapping[str, tuple[str, frozenset[bytes]]]] = {
    "service_tier": (
        "service_tier",
        frozenset({b'"auto"', b'"default"', b'"standard"', b'"standard_only"'}),
    ),
    "speed": ("fast_mode", frozenset({b'"standard"'})),
    "inference_geo": ("inference_geo", frozenset({b'"global"'})),
    "prompt_cache_retention": ("cache_retention", frozenset({b'"in_memory"', b'"in-memory"'})),
    # A routing upstream may serve another model at that model's price.
    "models": ("upstream_routing", frozenset()),
    "fallbacks": ("upstream_routing", frozenset()),
    "provider": ("upstream_routing", frozenset()),
    "preset": ("upstream_routing", frozenset()),
}
"""Member -> its feature, and the values without extra cost, which are kept."""

_REFUSED: Final[Mapping[str, str]] = {
    "web_search_options": "web_search",
    "search_parameters": "web_search",
    "enable_search": "web_search",
    "plugins": "plugins",
    "mcp_servers": "mcp_servers",
    "container": "code_execution",
    "audio": "audio_output",
}

_OFF: Final = frozenset({b"null", b"false", b"[]"})
_LISTS: Final = frozenset({"models", "fallbacks"})
"""Members that the gateway interprets; removed even if empty, since upstreams may reject them."""
_HIGHEST_COST: Final = (("audio", "audio_output"), ("image", "image_output"))

_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
_CLIENT_TOOL_PREFIXES: Final = ("bash_", "text_editor_", "computer_", "memory_", "tool_search_")
"""Anthropic's tools that the client runs, and tool search, which is free."""

_HOSTED_TOOLS: Final = (
    ("web_search", "web_search"),
    ("openrouter:web_search", "web_search"),
    ("builtin_function", "web_search"),  # Moonshot's `$web_search`
    ("google_search", "web_search"),
    ("browser_search", "web_search"),
    ("web_fetch", "web_fetch"),
    ("url_context", "web_fetch"),
    ("code_execution", "code_execution"),
    ("code_interpreter", "code_execution"),
    ("mcp", "mcp_servers"),
)
"""Prefix of a tool's type -> its feature; other types are `hosted_tools`."""

_BETAS: Final = (
    (b"fast-mode-", "fast_mode"),
    (b"context-1m-", "long_context"),
    (b"mcp-client-", "mcp_servers"),
    (b"code-execution-", "code_execution"),
    (b"skills-", "code_execution"),
    (b"web-fetch-", "web_fetch"),
    (b"server-side-fallback-", "upstream_routing"),
    (b"advisor-tool-", "hosted_tools"),
)
"""Prefix of an `anthropic-beta` name -> its feature."""

_PRICED_BETA = re.compile(b"|".join(prefix for prefix, _ in _BETAS))

_STRINGS: Final = msgspec.json.Decoder(list[str])
_NAMES: Final = tuple(name for name in PricedFields.__struct_fields__ if name != "tools")
_VALUES: Final = operator.attrgetter(*_NAMES)
_ABSENT: Final = (UNSET,) * len(_NAMES)


def priced_uses(fields: PricedFields) -> tuple[PricedUse, ...]:
    """Return the distinct priced features that a request uses; usually none."""
    found: list[PricedUse] = []
    values = _VALUES(fields)
    if values != _ABSENT:
        for name, value in zip(_NAMES, values, strict=True):
            if value is UNSET:
                continue
            raw = bytes(value)
            if raw not in _OFF or name in _LISTS:
                found.extend(_member_uses(name, raw))
    if fields.tools:
        found.extend(_hosted_tools(fields.tools))
    return tuple(dict.fromkeys(found)) if found else ()


def _member_uses(name: str, raw: bytes) -> Iterable[PricedUse]:
    if name == "modalities":
        return _modalities(raw)
    if name in _REFUSED:
        return (PricedUse(_REFUSED[name], name),)
    feature, standard = _HINTS[name]
    return () if raw in standard else (PricedUse(feature, name),)


def dropped_fields(uses: Iterable[PricedUse], allowed: Collection[str]) -> tuple[str, ...]:
    """
    Return the names of the hints to drop from a request.

    Args:
        uses: From `priced_uses`.
        allowed: The features that the provider allows.

    Raises:
        GatewayError: UNSUPPORTED: the request depends on a feature that is not allowed.
    """
    dropped: list[str] = []
    for use in uses:
        if use.feature in allowed:
            continue
        if use.field not in _HINTS:
            raise _not_enabled(use)
        dropped.append(use.field)
    return tuple(dropped)


def permitted_betas(
    headers: tuple[Header, ...], allowed: Collection[str], named: Collection[bytes]
) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """
    Return request headers without the betas of disallowed features, and the dropped features.

    Args:
        headers: Of the upstream request.
        allowed: The features that the provider allows.
        named: Betas in the provider's settings, which `mapped_betas` handles.
    """
    for name, value in headers:
        if name == b"anthropic-beta" and _PRICED_BETA.search(value):
            break
    else:
        return headers, ()
    kept: list[Header] = []
    dropped: dict[str, None] = {}
    for name, value in headers:
        if name != b"anthropic-beta":
            kept.append((name, value))
            continue
        betas = []
        for beta in map(bytes.strip, value.split(b",")):
            feature = None if beta in named else _beta_feature(beta)
            if feature is None or feature in allowed:
                betas.append(beta)
            else:
                dropped[f"anthropic-beta.{feature}"] = None
        if betas:
            kept.append((name, b",".join(betas)))
    return tuple(kept), tuple(dropped)


def _beta_feature(beta: bytes) -> str | None:
    return next((feature for prefix, feature in _BETAS if beta.startswith(prefix)), None)


def _modalities(raw: bytes) -> Iterator[PricedUse]:
    try:
        requested = set(_STRINGS.decode(raw)) - {"text"}
    except msgspec.MsgspecError:
        return  # not a list of strings: left to the upstream
    for modality, feature in _HIGHEST_COST:
        if modality in requested:
            requested.discard(modality)
            yield PricedUse(feature, "modalities")
    if requested:
        yield PricedUse("audio_output", "modalities")


def _hosted_tools(tools: list[_Tool]) -> Iterator[PricedUse]:
    for tool in tools:
        kind = tool.type
        if kind is None or kind in _CLIENT_TOOLS or kind.startswith(_CLIENT_TOOL_PREFIXES):
            continue
        yield PricedUse(_tool_feature(kind), "tools", kind)


def _tool_feature(kind: str) -> str:
    known = kind.lower()
    return next(
        (feature for prefix, feature in _HOSTED_TOOLS if known.startswith(prefix)), "hosted_tools"
    )


def _not_enabled(use: PricedUse) -> GatewayError:
    what = use.field if use.tool is None else f"tools: the hosted tool '{use.tool[:64]}'"
    return GatewayError(
        ErrorKind.UNSUPPORTED,
        f"{what} is not enabled for this model. Remove it, or ask the operator to add"
        f' "{use.feature}" to the provider\'s allow_features.',
        param=use.field,
    )
