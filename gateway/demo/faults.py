"""
The faults that the demo upstream can inject, and the rules that choose one for a request.

A fault is written `KIND [NAME=VALUE ...]`, for example `cut after=3`, in the request header
`x-capio-demo-fault` and in the prompt directive `/fault`. As JSON it is an object with the same
names: `{"kind": "cut", "after": 3}`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

HEADER = "x-capio-demo-fault"

Kind = Literal[
    "refuse", "hang_head", "hang_stream", "cut", "end_early", "garbage", "wrong_length",
    "rate_limit", "status", "drip", "error_after_200", "duplicate_usage", "huge_event",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One way to fail.

    For a response that is not streamed, `after` is ignored: half of the body is sent before the
    fault.
    """

    kind: Kind
    after: Annotated[int, Meta(ge=0, le=1_000_000)] = 2
    """Tokens of a stream before the fault."""
    status: Annotated[int, Meta(ge=400, le=599)] = 503
    retry_after_s: Annotated[int, Meta(ge=0, le=86_400)] = 2
    """Sent as `retry-after` with `rate_limit`."""
    size_bytes: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)] = 9 * 1024 * 1024
    """Size of the text in the event of `huge_event`."""
    pace_s: Annotated[float, Meta(ge=0, le=60)] = 0.05
    """Seconds between the pieces of `drip`."""
    piece_bytes: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    """Size of the pieces of `drip`."""
    for_s: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """How long `refuse` also closes the listening socket, for all clients."""
    streams_only: bool = False
    """Responses that are not streamed are sent without the fault."""

    def __str__(self) -> str:
        changed = (
            f"{name}={value}"
            for name in _NAMES
            if (value := getattr(self, name)) != _DEFAULTS[name]
        )
        return " ".join((self.kind, *changed))


_FIELDS = {field.name: field for field in msgspec.structs.fields(Fault)}
_DEFAULTS = {name: field.default for name, field in _FIELDS.items()}
_NAMES = tuple(name for name in _FIELDS if name != "kind")


class FaultError(ValueError):
    """A fault is not written correctly; the text names the field and the remedy."""


def parse(text: str) -> Fault:
    """
    Return the fault that a text specifies.

    Raises:
        FaultError: The kind or a name is unknown, or a value is out of its bounds.
    """
    kind, *settings = text.split() or [""]
    if kind not in KINDS:
        raise FaultError(f"fault: {kind!r} is unknown; use one of {', '.join(KINDS)}")
    values: dict[str, str] = {"kind": kind}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _NAMES or not value:
            names = ", ".join(_NAMES)
            raise FaultError(f"fault: {setting!r} is not NAME=VALUE; NAME is one of {names}")
        values[name] = value
    try:
        return msgspec.convert(values, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise FaultError(f"fault: {error}") from None


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """Which requests get a fault."""

    fault: Fault
    deployment: str | None = None
    """Only requests to this listener, `main` or `spare`; None: to all."""
    model: str | None = None
    """Only requests for this upstream model; None: for all."""
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The share of those requests."""
    times: Annotated[int, Meta(ge=0)] | None = None
    """Remaining number of times; None: unlimited."""

    def applies(self, deployment: str, model: str) -> bool:
        """Return whether the rule matches a request."""
        return (
            self.times != 0
            and self.deployment in (None, deployment)
            and self.model in (None, model)
        )


RANDOM_SHARES: dict[Kind, float] = {
    "refuse": 0.02, "hang_head": 0.01, "hang_stream": 0.01, "cut": 0.03, "end_early": 0.02,
    "garbage": 0.02, "wrong_length": 0.02, "rate_limit": 0.05, "status": 0.05, "drip": 0.03,
    "error_after_200": 0.02, "duplicate_usage": 0.02, "huge_event": 0.01,
}  # fmt: skip
"""What `capio demo --faults` injects into the main deployment: 31 % of its requests."""


def random_rules() -> list[Rule]:
    """Return the rules of `capio demo --faults`."""
    return [
        Rule(
            fault=Fault(kind, for_s=1.0 if kind == "refuse" else 0.0),
            deployment="main",
            share=share,
        )
        for kind, share in RANDOM_SHARES.items()
    ]


class FaultPlan:
    """
    Chooses the fault of each request.

    Args:
        rules: The initial rules, of which at most one is used for a request. Each applying rule is
            chosen with its share as the probability; the shares are added in order, up to 1.
        chance: Source of randomness.
    """

    def __init__(self, rules: Sequence[Rule] = (), chance: random.Random | None = None) -> None:
        self.rules = list(rules)
        self._chance = chance or random.Random()  # noqa: S311 (no secret)

    def choose(self, deployment: str, model: str) -> Fault | None:
        """Return the fault of one request, and count it."""
        point = self._chance.random()
        for rule in self.rules:
            if not rule.applies(deployment, model):
                continue
            point -= rule.share
            if point < 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
        return None
