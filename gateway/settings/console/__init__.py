"""The section `console`, about the web pages."""

from gateway.settings.console.section import Console
from gateway.settings.console.services import Mail, Oidc

__all__ = ["Console", "Mail", "Oidc"]
