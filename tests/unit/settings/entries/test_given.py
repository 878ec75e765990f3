"""The settings of an entry of the file that are not defaults."""

from gateway.settings import Model, Provider, parse
from gateway.settings.entries.given import given_settings
from gateway.settings.reading import read_table

PROVIDER = """
[[providers]]
name = "acme"
dialect = "deepseek"
api_keys = [{ env = "A" }, { file = "/run/b" }]
headers = { x-region = "secret-eu" }
timeouts = { connect_s = 3 }
openai = { base_url = "https://api.acme.example/v1" }

[[models]]
name = "small"
context = 128000
prices = { input = "0.5", tiers = { priority = "2" } }
deployments = [{ provider = "acme", model = "small-1", weight = 2, cost = {} }]
"""


def test_settings_are_those_that_are_no_defaults() -> None:
    file = parse(PROVIDER)

    assert given_settings(file.providers[0]) == {
        "dialect": "deepseek",
        "api_keys": [{"env": "A"}, {"file": "/run/b"}],
        "headers": {"x-region": "***"},
        "timeouts": {"connect_s": 3.0},
        "openai": {"base_url": "https://api.acme.example/v1"},
    }
    assert given_settings(file.models[0]) == {
        "prices": {"input": "0.5", "tiers": {"priority": "2"}},
        "deployments": [{"provider": "acme", "model": "small-1", "weight": 2, "cost": {}}],
    }


def test_settings_can_be_read_again() -> None:
    file = parse(PROVIDER)
    errors: list[str] = []

    model = read_table({**given_settings(file.models[0]), "name": "small"}, Model, errors)
    provider = read_table({**given_settings(file.providers[0]), "name": "acme"}, Provider, errors)

    assert errors == []
    assert model == file.models[0]
    assert provider.timeouts == file.providers[0].timeouts
