"""Every setting with its value and its source."""

from __future__ import annotations

from pathlib import Path

from gateway.settings import load_sources
from gateway.settings.sources.effective import EffectiveSetting, effective_settings

FILE = """
[redis]
url = "redis://user@cache/0?ssl_ca_certs=x"

[[providers]]
name = "one"
openai = { base_url = "https://one.example/v1" }
headers = { "X-Project" = "p-1" }
api_key_env = "ONE_KEY"

[[models]]
name = "m"
deployments = [{ provider = "one", model = "m" }]
"""


def test_settings_have_their_source_and_no_secret(tmp_path: Path) -> None:
    """Users in URLs and values of headers are hidden; the name of a variable is none."""
    path = tmp_path / "capio.toml"
    path.write_text(FILE, "utf-8")
    loaded = load_sources(path, None, {"CAPIO_SERVER__PORT": "9000"})

    found = {
        each.path: each
        for each in effective_settings(loaded.settings, loaded.raw, loaded.variables)
    }

    for expected in (
        EffectiveSetting("server.port", "9000", "environment", "CAPIO_SERVER__PORT"),
        EffectiveSetting("server.host", '"127.0.0.1"', "default"),
        EffectiveSetting("redis.url", '"redis://***@cache/0?***"', "file"),
        EffectiveSetting("redis.password_env", None, "default"),
        EffectiveSetting("providers[0].headers.X-Project", "***", "file"),
        EffectiveSetting("providers[0].api_key_env", '"ONE_KEY"', "file"),
        EffectiveSetting("providers[0].drop_fields", "[]", "default"),
        EffectiveSetting("models[0].deployments[0].model", '"m"', "file"),
    ):
        assert found[expected.path] == expected
