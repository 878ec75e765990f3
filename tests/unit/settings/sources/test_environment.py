"""Environment variables override single settings."""

from __future__ import annotations

import pytest

from gateway.settings import ConfigError, Settings, parse

FILE = """
[server]
port = 8000

[sql]
url = "postgresql://capio@db/capio"
password_env = "CAPIO_SQL__SECRET"

[[providers]]
name = "one"
openai = { base_url = "https://one.example/v1" }

[[models]]
name = "m"
deployments = [{ provider = "one", model = "m" }]
"""


def settings_with(**environ: str) -> Settings:
    return parse(FILE, None, environ)


def errors_with(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        settings_with(**environ)
    return raised.value.errors


def test_the_environment_wins_over_the_file_and_the_default() -> None:
    """Values have the type of their setting."""
    settings = settings_with(
        CAPIO_SERVER__PORT="9000",
        CAPIO_SERVER__HOST="0.0.0.0",
        CAPIO_SERVER__WATCH_CONFIG="False",
        CAPIO_SQL__POOL_SIZE="7",
        CAPIO_CONSOLE__TRUSTED_PROXIES="10.0.0.0/8, 192.168.0.0/16",
        CAPIO_MONEY__DEGRADED_SHARE="0.5",
    )

    assert settings.server.port == 9000
    assert settings.server.host == "0.0.0.0"
    assert settings.server.watch_config is False
    assert settings.sql.pool_size == 7
    assert settings.console.trusted_proxies == ["10.0.0.0/8", "192.168.0.0/16"]
    assert settings.money.degraded_share == 0.5


def test_members_of_lists_and_nested_tables_are_overridden() -> None:
    """An item is named by its index; tables that the file lacks are created."""
    settings = settings_with(
        CAPIO_PROVIDERS__0__OPENAI__BASE_URL="https://two.example/v1",
        CAPIO_PROVIDERS__0__TIMEOUTS__CONNECT_S="3",
        CAPIO_PROVIDERS__0__DROP_FIELDS='["store"]',
        CAPIO_MODELS__0__DEPLOYMENTS__0__MODEL="other",
    )

    provider = settings.providers[0]
    assert provider.openai is not None
    assert provider.openai.base_url == "https://two.example/v1"
    assert provider.timeouts.connect_s == 3.0
    assert provider.drop_fields == ["store"]
    assert settings.models[0].deployments[0].model == "other"


def test_a_value_that_is_not_allowed_is_an_error_that_names_the_variable() -> None:
    """Range, type and rules between settings are those of the file."""
    assert errors_with(CAPIO_SERVER__PORT="70000", CAPIO_SQL__POOL_SIZE="many") == [
        "CAPIO_SERVER__PORT: server.port: 70000 is not a whole number from 1 to 65535",
        'CAPIO_SQL__POOL_SIZE: sql.pool_size: "many" is not a whole number from 1 to 1000',
    ]
    assert errors_with(CAPIO_METRICS__PORT="8000") == [
        "CAPIO_METRICS__PORT: metrics.port: 8000 is already used by server.port"
    ]


@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ("CAPIO_SERVER__PRT", "there is no such setting (did you mean CAPIO_SERVER__PORT?)"),
        ("CAPIO_SERVR__PORT", "there is no such setting (did you mean CAPIO_SERVER?)"),
        ("CAPIO_SERVER__PORT__X", "server.port is not a table; end the name there"),
        (
            "CAPIO_MODELS__1__NAME",
            "models has 1 items in the file; give the index of one, from 0",
        ),
    ],
)
def test_a_variable_of_no_setting_is_an_error(variable: str, error: str) -> None:
    """A misspelt override must not be ignored."""
    assert errors_with(**{variable: "1"}) == [f"{variable}: {error}"]


def test_other_variables_are_none_of_its_business() -> None:
    """Without a double underscore, and where the file expects a secret."""
    settings = settings_with(CAPIO_PORT="1", CAPIO_SQL__SECRET="pw", OTHER__SERVER__PORT="1")

    assert settings == parse(FILE)
