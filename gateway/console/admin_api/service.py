"""What operators ask of the service: `/admin/probes` and `/admin/dead-letters`."""

from __future__ import annotations

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.operations.http_api import Query, Response, json_response, list_response
from gateway.operations.objects import letter_object, probe_object
from gateway.operations.probes import ProbeOperations
from gateway.operations.service.upkeep import UpkeepOperations
from gateway.operations.values import read_text


class ProbeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that asks for a probe."""

    deployment: str


class AdminService:
    """
    Handlers about the service itself.

    Args:
        probes: Reach the workers.
        upkeep: On events that were set aside.
    """

    def __init__(self, probes: ProbeOperations, upkeep: UpkeepOperations) -> None:
        self._probes = probes
        self._upkeep = upkeep

    def routes(self) -> list[Route]:
        return [
            Route("POST", "probes", self._probe),
            Route("GET", "dead-letters", self._list_letters),
            Route("POST", "dead-letters/*/requeue", self._requeue),
        ]

    async def _list_letters(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("before", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._upkeep.letters(before=query.text("before") or "", limit=limit)
        rows = [letter_object(each) for each in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _requeue(self, request: AdminRequest) -> Response:
        return json_response(
            letter_object(await self._upkeep.requeue(request.names[0], request.by))
        )

    async def _probe(self, request: AdminRequest) -> Response:
        body = await request.json(ProbeBody)
        deployment = read_text(body.deployment, "deployment")
        return json_response(probe_object(await self._probes.probe(deployment, request.by)))
