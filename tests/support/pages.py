"""The documentation of the demo, and of a service whose brand and models differ."""

from __future__ import annotations

import functools

from gateway.console.library.library import Library
from gateway.console.library.site import site_of
from gateway.server.demonstration import demo_settings
from gateway.settings import Brand, Deployment, Model, Prices, Provider, Settings, WireEndpoint


def other_settings() -> Settings:
    """Return a service that shares no name with the demo."""
    provider = Provider(name="host", openai=WireEndpoint(base_url="https://host.test/v1"))
    deployments = [Deployment(provider="host", model="m")]
    return Settings(
        brand=Brand(
            name="Acme AI",
            model_prefix="acme/",
            key_prefix="sk-acme-",
            public_url="https://ai.test/",
        ),
        providers=[provider],
        models=[
            Model(
                name="nimbus-1",
                aliases=["nimbus"],
                context=262_144,
                max_output=98_304,
                prices=Prices(input="0.5", output="1,234.5".replace(",", "")),
                deployments=deployments,
            ),
            Model(
                name="cirrus",
                context=1_048_576,
                max_output=800,
                tags=["budget"],
                deployments=deployments,
            ),
        ],
    )


@functools.cache
def demo_library() -> Library:
    """Return the documentation that `make run` serves."""
    return Library(site_of(demo_settings(8080, 9464, 1, 1)))


@functools.cache
def other_library() -> Library:
    """Return the documentation of the other service."""
    return Library(site_of(other_settings()))
