"""Settings as TOML can be read again as they were."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.entries.toml import write_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def test_settings_are_written_as_people_write_them() -> None:
    settings = {
        "dialect": "openai",
        "openai": {"base_url": "https://a.example/v1", "allow_http": False},
        "aliases": ["a", "b/c"],
        "prices": {"tiers": {"a b": "2"}},
        "deployments": [{"provider": "x", "weight": 2}],
        "betas": {},
    }

    assert write_toml(settings) == (
        'dialect = "openai"\n'
        'openai = { base_url = "https://a.example/v1", allow_http = false }\n'
        'aliases = ["a", "b/c"]\n'
        'prices = { tiers = { "a b" = "2" } }\n'
        'deployments = [\n  { provider = "x", weight = 2 },\n]\n'
        "betas = {}\n"
    )


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_any_settings_are_read_as_they_were(settings: dict[str, object]) -> None:
    assert tomllib.loads(write_toml(settings)) == settings


@pytest.mark.parametrize("text", ["\x7f", "\x00", '"\\', "\U0001f600", "\u2028"])
def test_strings_are_escaped(text: str) -> None:
    assert tomllib.loads(write_toml({"a": text})) == {"a": text}
