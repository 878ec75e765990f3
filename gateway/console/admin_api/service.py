"""What operators ask of the service: `/admin/probes`."""

from __future__ import annotations

import msgspec

from gateway.console.admin_api.request import AdminRequest, Route
from gateway.operations.http_api import Response, json_response
from gateway.operations.objects import probe_object
from gateway.operations.probes import ProbeOperations
from gateway.operations.values import read_text


class ProbeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that asks for a probe."""

    deployment: str


class AdminService:
    """
    Handlers about the service itself.

    Args:
        probes: Reach the workers.
    """

    def __init__(self, probes: ProbeOperations) -> None:
        self._probes = probes

    def routes(self) -> list[Route]:
        return [Route("POST", "probes", self._probe)]

    async def _probe(self, request: AdminRequest) -> Response:
        body = await request.json(ProbeBody)
        deployment = read_text(body.deployment, "deployment")
        return json_response(probe_object(await self._probes.probe(deployment, request.by)))
