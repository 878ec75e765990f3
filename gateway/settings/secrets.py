"""Reads secrets from the environment variables and files that the configuration names."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.settings.errors import ConfigError
from gateway.settings.schema import Console, Provider, Settings, Telemetry
from gateway.settings.telemetry import read_otlp_headers

ReadText = Callable[[str], str]
"""Returns a file's text; raises OSError or UnicodeDecodeError."""

_Fetch = Callable[[str, str | None, str | None], str | None]
_TOKEN_LENGTH = 32
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+\Z")


class Secrets(msgspec.Struct, frozen=True):
    """Every secret of one configuration. Its repr shows none."""

    providers: dict[str, tuple[str, ...]]
    """Provider name -> credentials, in the order of use; providers without one are absent."""
    redis_password: str | None = None
    sql_password: str | None = None
    admin_token: str | None = None
    """None: there is no admin API."""
    console: str | None = None
    """None: the secret of the pages is a file in the data directory."""
    oidc: str | None = None
    """None: the pages are a public client of the OpenID provider, or there is none."""
    redis_sentinel_password: str | None = None
    mail: str | None = None
    """The password for the mail server."""

    def __repr__(self) -> str:
        return f"Secrets({len(self.providers)} providers)"


def secret(
    path: str, env: str | None, file: str | None, environ: Mapping[str, str], read: ReadText
) -> str | None:
    """
    Return the secret that a setting refers to, without trailing line ends, or None.

    Args:
        path: The setting's key path without `_env` or `_file`, or that of a credential in a list,
            for the message.
        env: Name of an environment variable.
        file: Path of a file; a relative one starts at the working directory.
        environ: The environment.
        read: Reads a file.

    Raises:
        ConfigError: The variable is not set, the file cannot be read, or the value is empty.
    """
    if env is not None:
        value, where = environ.get(env), f"{path}{_dot(path)}env: the environment variable {env}"
        if value is None:
            raise ConfigError([f"{where} is not set"])
    elif file is not None:
        where = f"{path}{_dot(path)}file: {file}"
        try:
            value = read(file)
        except OSError as failure:
            raise ConfigError([f"{where} cannot be read: {failure.strerror}"]) from failure
        except UnicodeDecodeError as failure:
            raise ConfigError([f"{where} is not UTF-8"]) from failure
    else:
        return None
    value = value.rstrip("\r\n")
    if not value:
        raise ConfigError([f"{where} is empty"])
    return value


def secret_reader(environ: Mapping[str, str], read: ReadText, errors: list[str]) -> _Fetch:
    """Return a function like `secret` that appends errors instead of raising them."""

    def fetch(path: str, env: str | None, file: str | None) -> str | None:
        try:
            return secret(path, env, file, environ, read)
        except ConfigError as failure:
            errors.extend(failure.errors)
            return None

    return fetch


def provider_credentials(
    provider: Provider, path: str, fetch: _Fetch, errors: list[str]
) -> tuple[str, ...]:
    """Return a provider's credentials; append a line for each that is not a header value."""
    values: list[str] = []
    for where, env, file in credential_settings(provider, path):
        value = fetch(where, env, file)
        if value is not None and _HEADER_SAFE.match(value):
            values.append(value)
        elif value is not None:
            suffix = "env" if env is not None else "file"
            errors.append(
                f"{where}{_dot(where)}{suffix}: the value (not shown) has spaces, control or "
                "non-ASCII characters; use visible ASCII characters"
            )
    return tuple(dict.fromkeys(values))


def _credentials(
    settings: Settings, fetch: _Fetch, errors: list[str]
) -> dict[str, tuple[str, ...]]:
    found = {
        provider.name: provider_credentials(provider, f"providers[{index}]", fetch, errors)
        for index, provider in enumerate(settings.providers)
    }
    return {name: values for name, values in found.items() if values}


def _console_secret(console: Console, fetch: _Fetch, errors: list[str]) -> str | None:
    """Return the secret of the pages; append a line if it is too short."""
    found = fetch("console.secret", console.secret_env, console.secret_file)
    if found is not None and len(found) < _TOKEN_LENGTH:
        suffix = "env" if console.secret_env is not None else "file"
        errors.append(
            f"console.secret_{suffix}: the value (not shown) is too short; use at least "
            f"{_TOKEN_LENGTH} random characters"
        )
    return found


def _check_otlp_headers(telemetry: Telemetry, fetch: _Fetch, errors: list[str]) -> None:
    """Append a line if the headers are missing or malformed; only the exporter uses them."""
    env, file = telemetry.otlp_headers_env, telemetry.otlp_headers_file
    text = fetch("telemetry.otlp_headers", env, file)
    try:
        read_otlp_headers(text or "")
    except ValueError as failure:
        suffix = "env" if env is not None else "file"
        errors.append(f"telemetry.otlp_headers_{suffix}: the value (not shown) {failure}")


def _page_secrets(console: Console, fetch: _Fetch) -> tuple[str | None, str | None]:
    """Return the secrets for the OpenID provider and the mail server."""
    oidc, mail = console.oidc, console.mail
    client_secret = password = None
    if oidc is not None:
        path = "console.oidc.client_secret"
        client_secret = fetch(path, oidc.client_secret_env, oidc.client_secret_file)
    if mail is not None:
        password = fetch("console.mail.password", mail.password_env, mail.password_file)
    return client_secret, password


def _dot(path: str) -> str:
    """Return what separates a credential's path from `env` or `file`."""
    return "." if path.endswith("]") else "_"


def credential_settings(
    provider: Provider, path: str
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the path, variable and file of each credential of a provider."""
    if provider.api_key_env is not None or provider.api_key_file is not None:
        yield f"{path}.api_key", provider.api_key_env, provider.api_key_file
    for index, credential in enumerate(provider.api_keys):
        yield f"{path}.api_keys[{index}]", credential.env, credential.file


def read_text(path: str) -> str:
    """Return the contents of a UTF-8 file; the usual `read` of `resolve_secrets`."""
    return Path(path).read_text(encoding="utf-8")


class Wanted(enum.Enum):
    """The secrets that a process uses."""

    ALL = "all"
    """Those of the gateway and, if it runs the console as a child, also the console's."""
    CONSOLE = "console"
    """Those of the stores, the pages and the admin API."""
    STORES = "stores"


def resolve_secrets(
    settings: Settings, environ: Mapping[str, str], read: ReadText, *, wanted: Wanted = Wanted.ALL
) -> Secrets:
    """
    Return every secret that the settings refer to. TLS files are checked, not returned.

    Args:
        settings: The configuration.
        environ: The environment.
        read: Reads a file.
        wanted: What the process uses; the rest need not be readable.

    Raises:
        ConfigError: One line for each secret that is missing, empty or not a header value.
    """
    errors: list[str] = []

    fetch = secret_reader(environ, read, errors)
    is_gateway = wanted is Wanted.ALL
    has_console = wanted is Wanted.CONSOLE or (is_gateway and settings.runs_console)
    credentials = _credentials(settings, fetch, errors) if is_gateway else {}
    if is_gateway:
        fetch("server.tls_cert", None, settings.server.tls_cert_file)
        fetch("server.tls_key", None, settings.server.tls_key_file)
        _check_otlp_headers(settings.telemetry, fetch, errors)
    redis, sql, admin = settings.redis, settings.sql, settings.admin
    token = None
    if has_console:
        token = fetch("admin.token", admin.token_env, admin.token_file)
    if token is not None and not (_HEADER_SAFE.match(token) and len(token) >= _TOKEN_LENGTH):
        suffix = "env" if admin.token_env is not None else "file"
        errors.append(
            f"admin.token_{suffix}: the value (not shown) is not a token; use at least "
            f"{_TOKEN_LENGTH} visible ASCII characters"
        )
    console = client_secret = mail = None
    if has_console:
        console = _console_secret(settings.console, fetch, errors)
        client_secret, mail = _page_secrets(settings.console, fetch)
    secrets = Secrets(
        credentials,
        fetch("redis.password", redis.password_env, redis.password_file),
        fetch("sql.password", sql.password_env, sql.password_file),
        token,
        console,
        client_secret,
        fetch("redis.sentinel_password", redis.sentinel_password_env, redis.sentinel_password_file),
        mail,
    )
    if errors:
        raise ConfigError(errors)
    return secrets
