"""Incidents, notices and dead letters."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from gateway.console.openapi.shapes.common import Dollars, NanoDollars, about
from gateway.console.openapi.shapes.operators import Page, SentTime, Time

State = Literal["investigating", "identified", "monitoring", "resolved"]
Level = Literal["info", "warn"]


class NewIncident(Struct, forbid_unknown_fields=True, kw_only=True):
    """An incident to open."""

    title: Annotated[str, about("At most 120 characters.")]
    text: Annotated[str, about("What users should know; at most 500 characters.")]
    models: Annotated[list[str], about("The models that it concerns; none: all.")] = []
    state: State = "investigating"


class NewUpdate(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is known now."""

    state: Annotated[State, about("`resolved` ends the incident.")]
    text: str


class Update(Struct, kw_only=True):
    """An update of an incident."""

    at: Time
    state: State
    text: str


class Incident(Struct, kw_only=True):
    """An incident, as the status page shows it."""

    object: Literal["incident"]
    id: str
    title: str
    models: list[str]
    state: State
    began_at: Time
    resolved_at: Time | None
    updates: Annotated[list[Update], about("Newest first.")]


class IncidentList(Page):
    """One page of incidents, newest first."""

    data: list[Incident]


class NewNotice(Struct, forbid_unknown_fields=True, kw_only=True):
    """A banner for all pages."""

    text: str
    level: Level = "info"
    starts_at: SentTime = None
    ends_at: SentTime = None


class Notice(Struct, kw_only=True):
    """A banner that all pages show between two times."""

    object: Literal["notice"]
    id: str
    text: str
    level: Level
    created_at: Time
    starts_at: Time
    ends_at: Annotated[str | None, about("Null: until it is ended.")]


class NoticeList(Page):
    """One page of notices, newest first."""

    data: list[Notice]


class Letter(Struct, kw_only=True):
    """A usage event that was set aside. Null: it cannot be read."""

    object: Literal["dead_letter"]
    id: str
    at: Time
    reason: str
    request_id: str | None
    account_id: str | None
    model: str | None
    cost: Dollars
    cost_nanousd: NanoDollars


class LetterList(Page):
    """One page of dead letters, newest first."""

    data: list[Letter]
