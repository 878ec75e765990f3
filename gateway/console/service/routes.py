"""The routes of the pages about the state of the service."""

from __future__ import annotations

from gateway.console.service.components import ROUTES as COMPONENTS
from gateway.console.service.configuration import ROUTES as CONFIGURATION
from gateway.console.service.live import ROUTES as LIVE
from gateway.console.service.now import ROUTES as NOW
from gateway.console.service.providers import ROUTES as PROVIDERS
from gateway.console.service.system import ROUTES as SYSTEM
from gateway.console.service.upkeep import ROUTES as UPKEEP
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (*NOW, *LIVE, *PROVIDERS, *SYSTEM, *CONFIGURATION, *COMPONENTS, *UPKEEP)
