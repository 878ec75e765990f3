"""Checks the configured Redis before a process starts to use it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.settings import Secrets, Settings
from gateway.settings.embedded import is_redis_embedded
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.survey import survey_cluster
from gateway.store.redis.connection import (
    OtherKindError,
    RedisRefusedError,
    ReplyError,
    open_connection,
)
from gateway.store.redis.server_info import Advice, warnings

logger = logging.getLogger(__name__)


async def check_redis(settings: Settings, secrets: Secrets) -> None:
    """
    Refuse a Redis that cannot work, and log what may lose data.

    A Redis that is unavailable, or refuses the credential, is logged only: processes keep trying to
    connect, and serve what they can meanwhile. The embedded server needs no check.

    Raises:
        RedisRefusedError: The gateway cannot use this server; the message has the remedy.
        OSError: A certificate file cannot be read.
        ValueError: `redis.url` has an unknown option.
    """
    if is_redis_embedded(settings):
        return
    target = redis_address(settings, secrets, "capio-check")
    fields: dict[str, object] = {"redis": target.label}
    try:
        try:
            link = None if target.seeds else await open_connection(target)
        except OtherKindError:
            if not target.may_be_cluster:
                raise
            target, link = target.as_cluster(), None
        if link is None:
            survey = await survey_cluster(target)
            _log(fields, survey.product, survey.warnings)
            return
    except RedisRefusedError:
        raise
    except (OSError, ReplyError, ValueError) as error:
        reason = error.code if isinstance(error, ReplyError) else str(error) or type(error).__name__
        logger.warning("redis_check_failed", extra={**fields, "reason": reason})
        return
    link.abort()
    await link.closed
    if link.server is None:
        remedy = "allow INFO to the user of ACL, so that memory and persistence can be checked"
        logger.warning("redis_check_skipped", extra={**fields, "remedy": remedy})
        return
    _log(fields, link.server.product, warnings(link.server))


def _log(fields: dict[str, object], product: str, advices: Sequence[Advice]) -> None:
    logger.info("redis_checked", extra={**fields, "product": product})
    for advice in advices:
        extra = {**fields, "problem": advice.problem, "remedy": advice.remedy}
        logger.warning("redis_durability_reduced", extra=extra)
