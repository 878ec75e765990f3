"""A provider in SQL sends no secret of the gateway to a host of its choice."""

import pytest

from gateway.settings import Settings, parse
from gateway.settings.entries.merge import StoredEntry, merge

FILE = """
[catalogue]
credential_env = ["*_API_KEY", "ADMIN_*"]
credential_dirs = ["/run/keys"]

[admin]
token_env = "ADMIN_TOKEN"

[sql]
url = "postgresql://capio@db/capio"
password_file = "/run/keys/sql"

[[providers]]
name = "acme"
api_key_env = "ACME_API_KEY"
openai = { base_url = "https://api.acme.example/v1" }
anthropic = { base_url = "https://api.acme.example/anthropic" }

[[models]]
name = "small"
deployments = [{ provider = "acme", model = "small-1" }]
"""


def problems(file: Settings, **body: object) -> str:
    openai = {"base_url": "https://evil.example/v1"}
    entry = StoredEntry(kind="provider", name="new", body={"openai": openai, **body})
    found = merge(file, [entry])
    in_force = [each.name for each in found.settings.providers] == ["acme", "new"]
    assert in_force == (not found.problems)
    return "\n".join(found.problems)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"api_key_env": "AWS_SECRET_ACCESS_KEY"}, "not among the variables"),
        ({"api_key_env": "ADMIN_TOKEN"}, "holds another secret of the gateway"),
        ({"api_keys": [{"env": "HOME"}]}, "providers.new.api_keys[0].env: "),
        ({"api_key_file": "/etc/shadow"}, "is in none of the directories"),
        ({"api_key_file": "/run/keys/../../etc/shadow"}, "is in none of the directories"),
        ({"api_key_file": "keys/new"}, "is in none of the directories"),
        ({"api_key_file": "/run/keys/sql"}, "holds another secret of the gateway"),
        ({"api_key_env": "ACME_API_KEY"}, "the credential of provider acme of the file"),
        ({"headers": {"x-portkey-api-key": "abc"}}, "looks like a credential"),
    ],
)
def test_a_provider_may_not_name_a_secret_of_others(body: dict[str, object], error: str) -> None:
    found = problems(parse(FILE), **body)

    assert error in found
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert "abc" not in found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"api_key_env": "NEW_API_KEY"},
        {"api_keys": [{"env": "NEW_A_API_KEY"}, {"file": "/run/keys/new/b"}]},
        {"api_key_file": "/run/keys/new"},
        {"headers": {"x-region": "eu"}},
        {"api_key_env": "ACME_API_KEY", "openai": {"base_url": "https://api.acme.example/v2"}},
    ],
)
def test_a_provider_may_have_credentials_of_its_own(body: dict[str, object]) -> None:
    assert problems(parse(FILE), **body) == ""


@pytest.mark.parametrize(
    "body",
    [
        {"openai": {"base_url": "http://api.acme.example/v1", "allow_http": True}},
        {"openai": {"base_url": "https://api.acme.example:8443/v1"}},
        {
            "openai": {"base_url": "https://api.acme.example/v1"},
            "transport": "httpx2",
            "proxy": "http://evil.example",
        },
    ],
)
def test_a_shared_credential_takes_the_same_way(body: dict[str, object]) -> None:
    assert "for its own hosts only" in problems(parse(FILE), api_key_env="ACME_API_KEY", **body)
