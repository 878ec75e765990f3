"""The section about money: how calls are admitted."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import Count, Price, Section


class Money(Section, frozen=True):
    """How calls are admitted, what they reserve, and what happens without Redis."""

    degraded: Annotated[
        Literal["open", "closed"],
        Meta(
            description='Behaviour while Redis is unavailable. `"open"`: each worker admits'
            " accounts that it has seen, within a share of their limits and credit."
            ' `"closed"`: calls are rejected with 503 (OpenAI) or 529 (Anthropic).',
        ),
    ] = "open"
    degraded_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Largest share of each limit and balance that a worker admits while Redis"
            " is unavailable. The share is one divided by the number of workers in all pods that"
            " were live when Redis last responded, so that the sum keeps to the limit.",
        ),
    ] = 1.0
    lease_s: Annotated[
        float,
        Meta(
            ge=3,
            le=3600,
            description="Lease of a running call. A call whose lease was not renewed in time is"
            " settled with its last checkpoint, because its worker is considered dead.",
        ),
    ] = 30.0
    renew_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600,
            description="Interval at which workers renew leases. At most a third of"
            " `money.lease_s`.",
        ),
    ] = 5.0
    refresh_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Interval at which the balance of an account in use is compared with SQL,"
            " beside every change and every charged call.",
        ),
    ] = 600.0
    default_output: Annotated[
        Count,
        Meta(
            description="Output reserved per call until 20 samples exist.",
            extra={"unit": "tokens"},
        ),
    ] = 1024
    output_ceiling: Annotated[
        Count,
        Meta(
            description="Maximum output reserved when a call begins, per choice. Streams that"
            " outgrow their reservation extend it.",
            extra={"unit": "tokens"},
        ),
    ] = 32_768
    exposure_floor: Annotated[
        Price,
        Meta(
            description="Amount by which the worst cases of an account's running calls may exceed"
            ' its funds, however small these are. `"0"` with a share of 0 never lets an account'
            " fall below zero.",
            extra={"unit": "dollars"},
        ),
    ] = "1"
    exposure_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The amount of `money.exposure_floor` as a share of the funds. The"
            " larger of the two applies.",
        ),
    ] = 0.1
    small_balance: Annotated[
        Price,
        Meta(
            description="Funds below which `money.small_concurrency` applies.",
            extra={"unit": "dollars"},
        ),
    ] = "1"
    small_concurrency: Annotated[
        Count,
        Meta(
            description="Maximum concurrent priced calls of an account with less than"
            " `money.small_balance`.",
            extra={"unit": "calls"},
        ),
    ] = 8
