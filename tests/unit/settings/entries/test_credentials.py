"""Credentials of providers in SQL, from variables and files."""

from gateway.settings import Credential, Provider
from gateway.settings.entries.credentials import StoredCredentials


def read(path: str) -> str:
    if path != "/run/keys/a":
        raise FileNotFoundError(2, "No such file or directory")
    return "from-file\n"


def test_credentials_are_found_in_order() -> None:
    credentials = StoredCredentials({"A_API_KEY": "from-env"}, read)
    keys = [Credential(env="A_API_KEY"), Credential(file="/run/keys/a")]

    assert credentials.check(Provider(name="a", api_keys=keys), "providers.a") == []
    assert credentials.check(Provider(name="none"), "providers.none") == []
    assert credentials.found == {"a": ("from-env", "from-file")}


def test_missing_credential_is_named_without_its_value() -> None:
    credentials = StoredCredentials({"SPACED_API_KEY": "a b"}, read)

    assert credentials.check(Provider(name="a", api_key_env="NO_API_KEY"), "providers.a") == [
        "providers.a.api_key_env: the environment variable NO_API_KEY is not set"
    ]
    (missing,) = credentials.check(Provider(name="b", api_key_file="/x"), "providers.b")
    assert missing.startswith("providers.b.api_key_file: /x cannot be read")
    (spaced,) = credentials.check(Provider(name="c", api_key_env="SPACED_API_KEY"), "providers.c")
    assert "providers.c.api_key_env" in spaced
    assert "a b" not in spaced
    assert credentials.found == {}
