"""`GET /v1/models` and `/v1/models/{id}`, in OpenAI's or Anthropic's format."""

from __future__ import annotations

from urllib.parse import unquote

from gateway.core.catalogue import Catalogue
from gateway.core.model import Model, Principal, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import read_query
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.channel import ClientChannel
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.headers import json_head
from gateway.protocols.http.model_list import list_models, show_model

_PREFIX = "/v1/models"


class ModelsApi:
    """
    Lists the models that a key may use.

    Args:
        catalogue: All models.
        authenticator: Checks the key.
    """

    def __init__(self, catalogue: Catalogue, authenticator: Authenticator) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator

    async def handle(self, channel: ClientChannel, request_id: str) -> None:
        """Respond with the list or one model."""
        wire = _wire(channel)
        try:
            principal = await self._authenticator.principal(channel)
            name = unquote(channel.scope["path"])[len(_PREFIX) :].strip("/")
            body = self._one(wire, principal, name) if name else self._all(channel, wire, principal)
        except GatewayError as error:
            status, headers, body = render(error, wire, request_id)
        else:
            status = 200
            headers = json_head(body, request_id)
        await channel.respond(status, headers, body)

    def _all(self, channel: ClientChannel, wire: Wire, principal: Principal) -> bytes:
        query = dict(read_query(channel.scope["query_string"]))
        return list_models(self._permitted(principal), wire, query)

    def _one(self, wire: Wire, principal: Principal, name: str) -> bytes:
        model = self._catalogue.resolve(name)
        if model is None or model not in self._permitted(principal):
            raise GatewayError(ErrorKind.UNKNOWN_MODEL, name, param="model")
        return show_model(model, wire, name)

    def _permitted(self, principal: Principal) -> list[Model]:
        allowed = principal.models
        return [m for m in self._catalogue.models if allowed is None or m.name in allowed]


def _wire(channel: ClientChannel) -> Wire:
    # Anthropic's clients send `anthropic-version`, or else `x-api-key`.
    if channel.header(b"anthropic-version") or channel.header(b"x-api-key"):
        return Wire.ANTHROPIC
    return Wire.OPENAI
