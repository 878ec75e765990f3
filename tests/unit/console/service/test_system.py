"""The settings in force."""

from __future__ import annotations

from gateway.console.service.system import setting_lines, vendored
from gateway.settings import Redis, Settings, Sql


def test_settings_say_what_the_file_changes_and_hide_passwords() -> None:
    """The password in the URL of a store is not shown."""
    settings = Settings(
        redis=Redis(url="rediss://user:hunter2@redis.test:6379/0"),
        sql=Sql(url="postgresql://capio:hunter2@sql.test/capio", pool_size=7),
    )

    lines = {line.name: line for _, section in setting_lines(settings) for line in section}

    assert lines["redis.url"].value == "rediss://…@redis.test:6379/0"
    assert lines["sql.url"].value == "postgresql://…@sql.test/capio"
    assert (lines["sql.pool_size"].value, lines["sql.pool_size"].is_default) == ("7", False)
    assert (lines["server.port"].value, lines["server.port"].is_default) == ("8080", True)
    assert lines["admin.token_env"].value == "–"
    assert "hunter2" not in str(lines)


def test_files_of_others_have_a_licence() -> None:
    """As VENDOR.toml names them."""
    assert {"0BSD", "OFL-1.1", "ISC"} <= {each["license"] for each in vendored()}
