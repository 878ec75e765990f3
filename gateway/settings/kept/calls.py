"""The sections `idempotency` and `responses`: stored outcomes and responses of calls."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.settings.types import Section


class Idempotency(Section, frozen=True):
    """Calls that carry an `Idempotency-Key` header."""

    enabled: Annotated[bool, Meta(description="If false, the header is ignored.")] = True
    ttl_s: Annotated[
        float,
        Meta(
            ge=60,
            le=2_592_000,
            description="Time for which an outcome is kept, from the end of its call.",
        ),
    ] = 86_400.0
    max_response_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=4 * 1024 * 1024,
            description="Maximum size of a stored response. Of a larger one only the outcome is"
            " kept.",
        ),
    ] = 1024 * 1024
    max_account_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1024 * 1024 * 1024 * 1024,
            description="Maximum size of the responses that one account may store. Beyond it, its"
            " responses count as too large. Redis holds at most twice as much for it.",
            extra={"unit": "bytes per `idempotency.ttl_s`"},
        ),
    ] = 64 * 1024 * 1024
    lease_s: Annotated[
        float,
        Meta(
            ge=3,
            le=600,
            description="Time after which the key of a running call is released if its worker no"
            " longer renews it. It is renewed three times as often.",
        ),
    ] = 30.0


class Responses(Section, frozen=True):
    """Responses of `/v1/responses` that are kept for follow-up requests."""

    store_ttl_s: Annotated[
        float,
        Meta(
            ge=0,
            le=2_592_000,
            description="Time for which a response is kept after its end or after the last request"
            " that continued or referred to it. `0` keeps none: every response then says"
            ' `"store": false`.',
        ),
    ] = 3600.0
    max_response_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=8 * 1024 * 1024,
            description="Maximum size of one kept response: the input that its request added, and"
            " the response object, before compression. A larger one is not kept and says"
            ' `"store": false`.',
        ),
    ] = 4 * 1024 * 1024
    max_account_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1024 * 1024 * 1024 * 1024,
            description="Maximum size of the kept responses of one account in Redis, after"
            " compression. Beyond it the least recently used are removed.",
        ),
    ] = 64 * 1024 * 1024
