"""`/admin/incidents` and `/admin/notices`."""

from __future__ import annotations

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.operations.announcements import AnnouncementOperations
from gateway.operations.http_api import Query, Response, json_response, list_response
from gateway.operations.objects import incident_object, notice_object
from gateway.operations.values import read_time


class IncidentBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that opens an incident; without models it concerns all."""

    title: str
    text: str
    models: list[str] = []
    state: str = "investigating"


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that adds an update."""

    state: str
    text: str


class NoticeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that publishes a notice; times are ISO dates or times, or Unix seconds."""

    text: str
    level: str = "info"
    starts_at: str | int | None = None
    ends_at: str | int | None = None


class AdminAnnouncements:
    """
    Handlers for incidents and notices.

    Args:
        operations: On them.
    """

    def __init__(self, operations: AnnouncementOperations) -> None:
        self._operations = operations

    def routes(self) -> list[Route]:
        return [
            Route("GET", "incidents", self._list_incidents),
            Route("POST", "incidents", self._open_incident),
            Route("POST", "incidents/*/updates", self._update_incident),
            Route("GET", "notices", self._list_notices),
            Route("POST", "notices", self._publish_notice),
            Route("POST", "notices/*/end", self._end_notice),
        ]

    async def _list_incidents(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("before", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._operations.incidents(before=query.text("before") or "", limit=limit)
        rows = [incident_object(each) for each in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _open_incident(self, request: AdminRequest) -> Response:
        body = await request.json(IncidentBody)
        opened = await self._operations.open_incident(
            body.title, body.text, body.models, body.state, request.by
        )
        return json_response(incident_object(opened), 201)

    async def _update_incident(self, request: AdminRequest) -> Response:
        body = await request.json(UpdateBody)
        changed = await self._operations.update_incident(
            request.names[0], body.state, body.text, request.by
        )
        return json_response(incident_object(changed), 201)

    async def _list_notices(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("before", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._operations.notices(before=query.text("before") or "", limit=limit)
        rows = [notice_object(each) for each in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _publish_notice(self, request: AdminRequest) -> Response:
        body = await request.json(NoticeBody)
        published = await self._operations.publish_notice(
            body.text,
            body.level,
            request.by,
            starts_at=_time(body.starts_at, "starts_at"),
            ends_at=_time(body.ends_at, "ends_at"),
        )
        return json_response(notice_object(published), 201)

    async def _end_notice(self, request: AdminRequest) -> Response:
        return json_response(
            notice_object(await self._operations.end_notice(request.names[0], request.by))
        )


def _time(value: str | int | None, param: str) -> int | None:
    return None if value is None else read_time(str(value), param)
