"""The section about attempts: retries, health and preferences of clients."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.settings.types import Count, Seconds, Section


class Routing(Section, frozen=True):
    """How calls are distributed over deployments, and what happens when one fails."""

    max_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=32,
            description="Maximum attempts of one call, over all its deployments and fallback"
            " models. `max_retries` of the native endpoint may lower it for one call.",
            extra={"unit": "attempts"},
        ),
    ] = 6
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="How often a deployment is tried again after all have failed. Errors of the"
            " request, credentials, quotas and timeouts are never retried.",
            extra={"unit": "retries per deployment"},
        ),
    ] = 1
    attempts_within_s: Annotated[
        Seconds,
        Meta(description="No attempt begins later than this after the first one of its call."),
    ] = 300.0
    max_retry_wait_s: Annotated[
        Seconds,
        Meta(
            description="Longest delay before a retry. If the upstream's `retry-after` demands"
            " more, the client gets the error and the header.",
        ),
    ] = 5.0
    retry_budget_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Retries of the same deployment as a share of the calls of the last 10"
            " seconds. Fallbacks to other deployments are not counted.",
            extra={"unit": "percent, per worker"},
        ),
    ] = 20.0
    retry_budget_floor: Annotated[
        Count,
        Meta(
            description="Retries in 10 seconds that are allowed in addition to the share.",
            extra={"unit": "retries per worker"},
        ),
    ] = 10
    breaker_failures: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Failures in a row after which a deployment is no longer used. Rate limits,"
            " overload and errors of the request are not counted.",
            extra={"unit": "attempts"},
        ),
    ] = 5
    breaker_open_s: Annotated[
        Seconds,
        Meta(description="Time from opening a breaker to the first probe, and between two."),
    ] = 5.0
    out_probe_s: Annotated[
        Seconds,
        Meta(
            description="Time between two probes of a deployment whose credential or credit was"
            " refused. The first one follows at once.",
        ),
    ] = 30.0
    max_rest_s: Annotated[
        Seconds,
        Meta(
            description="Longest time for which a rate limit or an overload keeps a deployment or"
            " a credential from being used, whatever its `retry-after` demands.",
        ),
    ] = 600.0
    probes: Annotated[
        bool,
        Meta(
            description="Probe deployments that are out with a call of one token, from one worker"
            " of all pods. If false, single calls of clients are used instead, one at a time.",
        ),
    ] = True
    affinity: Annotated[
        bool,
        Meta(
            description="Keep the calls of a conversation on the deployment that holds its prompt"
            " cache, among deployments that are otherwise equal.",
        ),
    ] = True
    client_preferences: Annotated[
        bool,
        Meta(
            description="Clients may choose among deployments with the headers `x-capio-prefer`,"
            " `x-capio-only` and `x-capio-exclude`. If false, they are rejected with 400.",
        ),
    ] = True
    client_fallbacks: Annotated[
        bool,
        Meta(
            description="Clients may name fallback models for a call. If false, they are rejected"
            " with 400.",
        ),
    ] = True
    show_provider: Annotated[
        bool,
        Meta(
            description="Name the provider that served a call, in `x-capio-provider` and in"
            " `/v1/generation`.",
        ),
    ] = True
