"""The models of a call: the requested one, and its fallbacks."""

from __future__ import annotations

from gateway.core.catalogue import Catalogue
from gateway.core.model import Model, Principal
from gateway.core.routing.preferences import FALLBACKS
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.request.context import CallContext
from gateway.protocols.http.request.model_fallbacks import (
    Fallback,
    fallback_refused,
    header_fallbacks,
)


class ModelFallbacks:
    """
    Finds the fallback models of calls.

    Args:
        catalogue: All models.
        enabled: Clients may name fallback models.
    """

    def __init__(self, catalogue: Catalogue, *, enabled: bool) -> None:
        self._catalogue = catalogue
        self._enabled = enabled

    def models(self, context: CallContext, principal: Principal, model: Model) -> list[Model]:
        """
        Return the model of a call and its fallbacks: the client's, else those of the catalogue.

        Raises:
            GatewayError: BAD_REQUEST or FORBIDDEN: the client names a model that it cannot use.
        """
        listed = context.request.fallbacks
        header = context.channel.header(FALLBACKS)
        if header is not None:
            listed += header_fallbacks(header)
        if not listed and not model.fallbacks:
            return [model]
        models = {model.name: model}
        found = self._listed(principal, listed) if listed else self._own(principal, model)
        for each in found:
            models[each.name] = each
        return list(models.values())

    def _own(self, principal: Principal, model: Model) -> list[Model]:
        known = (self._catalogue.resolve(name) for name in model.fallbacks)
        return [each for each in known if each is not None and _may_use(principal, each)]

    def _listed(self, principal: Principal, listed: tuple[Fallback, ...]) -> list[Model]:
        if not self._enabled:
            raise fallback_refused(listed[0], "is not enabled on this service: remove it")
        found: list[Model] = []
        for fallback in listed:
            known = self._catalogue.resolve(fallback.name)
            if known is None:
                problem = f"contains an unknown model, '{fallback.name[:64]}': see /v1/models"
                raise fallback_refused(fallback, problem)
            check_may_use(principal, known, fallback.field)
            found.append(known)
        return found


def check_may_use(principal: Principal, model: Model, field: str = "model") -> None:
    """Raise FORBIDDEN if a key may not use a model, which the client names in `field`."""
    if not _may_use(principal, model):
        raise GatewayError(
            ErrorKind.FORBIDDEN,
            f"This API key may not use the model '{model.name}'.",
            param=field,
        )


def _may_use(principal: Principal, model: Model) -> bool:
    return principal.models is None or model.name in principal.models
