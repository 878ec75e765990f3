"""Secrets come from the environment or from files, and are never shown."""

import msgspec
import pytest

from gateway.server.environment import ledger_environment
from gateway.settings import (
    Admin,
    ConfigError,
    Console,
    Credential,
    Oidc,
    Provider,
    Redis,
    Server,
    Settings,
    Sql,
    Telemetry,
    Wanted,
    resolve_secrets,
    secret,
)

OIDC = Oidc(issuer="https://id.test", client_id="pages", client_secret_env="OIDC")
FILES = {"/run/key": "k3y\n", "/run/empty": "\n", "/run/two": "a b"}


def read(path: str) -> str:
    if path == "/run/binary":
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


def test_secret_from_environment_or_file_loses_its_line_end() -> None:
    """The line end of a secret is removed."""
    assert secret("p", "KEY", None, {"KEY": "abc"}, read) == "abc"
    assert secret("p", None, "/run/key", {}, read) == "k3y"
    assert secret("p", None, None, {}, read) is None


@pytest.mark.parametrize(
    ("env", "file", "error"),
    [
        ("KEY", None, "redis.password_env: the environment variable KEY is not set"),
        ("EMPTY", None, "redis.password_env: the environment variable EMPTY is empty"),
        (None, "/none", "redis.password_file: /none cannot be read: No such file or directory"),
        (None, "/run/empty", "redis.password_file: /run/empty is empty"),
        (None, "/run/binary", "redis.password_file: /run/binary is not UTF-8"),
    ],
)
def test_secret_that_is_not_there_is_a_error(env: str | None, file: str | None, error: str) -> None:
    """The line names the setting and where the secret was looked for."""
    with pytest.raises(ConfigError) as raised:
        secret("redis.password", env, file, {"EMPTY": ""}, read)

    assert raised.value.errors == [error]


def test_resolve_secrets_gives_each_provider_its_own() -> None:
    """A provider without a credential is left out."""
    settings = Settings(
        providers=[
            Provider(name="a", api_key_env="A"),
            Provider(name="b"),
            Provider(name="c", api_key_file="/run/key"),
        ],
        redis=Redis(url="redis://r", password_env="R"),
        sql=Sql(url="postgresql://s", password_file="/run/two"),
    )

    secrets = resolve_secrets(settings, {"A": "one", "R": "redis pw"}, read)

    assert secrets.providers == {"a": ("one",), "c": ("k3y",)}
    assert secrets.redis_password == "redis pw"
    assert secrets.sql_password == "a b"
    assert repr(secrets) == "Secrets(2 providers)"


def test_resolve_secrets_reports_all_that_is_missing() -> None:
    """Each missing secret is a line; a credential that fits in no header is one too, not shown."""
    settings = Settings(
        providers=[
            Provider(name="a", api_key_env="A"),
            Provider(name="b", api_key_file="/run/two"),
        ],
        server=Server(tls_cert_file="/none", tls_key_file="/run/key"),
        sql=Sql(url="postgresql://s", password_env="S"),
    )

    with pytest.raises(ConfigError) as raised:
        resolve_secrets(settings, {}, read)

    assert raised.value.errors == [
        "providers[0].api_key_env: the environment variable A is not set",
        "providers[1].api_key_file: the value (not shown) has spaces, control or non-ASCII "
        "characters; use visible ASCII characters",
        "server.tls_cert_file: /none cannot be read: No such file or directory",
        "sql.password_env: the environment variable S is not set",
    ]


def test_resolve_secrets_of_stores_needs_no_credential() -> None:
    """The ledger process has the stores' secrets only, and its environment no others."""
    settings = Settings(
        providers=[Provider(name="a", api_key_env="A")],
        server=Server(tls_cert_file="/none"),
        sql=Sql(url="postgresql://s", password_env="S"),
        console=Console(secret_env="PAGES"),
        admin=Admin(token_env="TOKEN"),
    )
    environ = {"S": "pw", "A": "key", "PAGES": "p" * 32, "TOKEN": "t" * 32, "PATH": "/bin"}

    secrets = resolve_secrets(
        settings, ledger_environment(settings, environ), read, wanted=Wanted.STORES
    )

    assert (secrets.providers, secrets.sql_password) == ({}, "pw")
    assert (secrets.console, secrets.admin_token) == (None, None)


def test_gateway_without_a_console_needs_no_secret_of_one() -> None:
    """As where the pages run on their own; the admin API is served by the console, too."""
    settings = Settings(console=Console(enabled=False, secret_env="PAGES", oidc=OIDC))
    with_admin = msgspec.structs.replace(settings, admin=Admin(token_env="TOKEN"))

    assert resolve_secrets(settings, {}, read).console is None
    with pytest.raises(ConfigError) as raised:
        resolve_secrets(with_admin, {}, read)
    assert [line.split(":")[0] for line in raised.value.errors] == [
        "admin.token_env",
        "console.secret_env",
        "console.oidc.client_secret_env",
    ]
    with pytest.raises(ConfigError, match=r"console\.secret_env"):
        resolve_secrets(settings, {}, read, wanted=Wanted.CONSOLE)


def test_resolve_secrets_reads_several_credentials_of_a_provider() -> None:
    """They keep their order; a repeated one is kept once."""
    keys = [Credential(env="A"), Credential(file="/run/key"), Credential(env="A")]
    settings = Settings(providers=[Provider(name="a", api_keys=keys)])

    secrets = resolve_secrets(settings, {"A": "one"}, read)

    assert secrets.providers == {"a": ("one", "k3y")}


def test_resolve_secrets_names_the_credential_of_a_list() -> None:
    """The path counts from 0, as everywhere; the value is not shown."""
    keys = [Credential(env="A"), Credential(env="B")]
    settings = Settings(providers=[Provider(name="a", api_keys=keys)])

    with pytest.raises(ConfigError) as raised:
        resolve_secrets(settings, {"A": "se cret"}, read)

    assert raised.value.errors == [
        "providers[0].api_keys[0].env: the value (not shown) has spaces, control or non-ASCII "
        "characters; use visible ASCII characters",
        "providers[0].api_keys[1].env: the environment variable B is not set",
    ]


def test_client_secret_of_the_openid_provider_is_the_consoles() -> None:
    """The ledger process does not read it; without one the pages are a public client."""
    settings = Settings(console=Console(oidc=OIDC))

    found = resolve_secrets(settings, {"OIDC": "k3y"}, read, wanted=Wanted.CONSOLE)
    assert found.oidc == "k3y"
    assert resolve_secrets(settings, {}, read, wanted=Wanted.STORES).oidc is None
    with pytest.raises(ConfigError, match=r"console\.oidc\.client_secret_env"):
        resolve_secrets(settings, {}, read, wanted=Wanted.CONSOLE)


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({}, "the environment variable OTLP is not set"),
        ({"OTLP": "se cret"}, "the value (not shown) is not a list of headers; use a form like"),
    ],
)
def test_headers_for_the_collector_are_checked_at_the_start(
    environ: dict[str, str], error: str
) -> None:
    """The exporter process starts after the workers, too late to tell the operator."""
    settings = Settings(telemetry=Telemetry(otlp_headers_env="OTLP"))

    with pytest.raises(ConfigError) as raised:
        resolve_secrets(settings, environ, read)

    (found,) = raised.value.errors
    assert found.startswith(f"telemetry.otlp_headers_env: {error}")
    assert "se cret" not in found
