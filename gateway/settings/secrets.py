"""Fetches secrets from where the configuration says they are: the environment, or files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.settings.errors import ConfigError
from gateway.settings.schema import Settings

ReadText = Callable[[str], str]
"""Returns a file's text; raises OSError or UnicodeDecodeError."""

_TOKEN_LENGTH = 32
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+\Z")


class Secrets(msgspec.Struct, frozen=True):
    """Every secret of one configuration. Its repr shows none."""

    providers: dict[str, str]
    """Provider name -> credential; providers without one are absent."""
    redis_password: str | None = None
    sql_password: str | None = None
    admin_token: str | None = None
    """None: there is no admin API."""

    def __repr__(self) -> str:
        return f"Secrets({len(self.providers)} providers)"


def secret(
    path: str, env: str | None, file: str | None, environ: Mapping[str, str], read: ReadText
) -> str | None:
    """
    Return the secret that a setting refers to, without trailing line ends, or None.

    Args:
        path: The setting's key path without `_env` or `_file`, for the message.
        env: Name of an environment variable.
        file: Path of a file; a relative one starts at the working directory.
        environ: The environment.
        read: Reads a file.

    Raises:
        ConfigError: The variable is not set, the file cannot be read, or the value is empty.
    """
    if env is not None:
        value, where = environ.get(env), f"{path}_env: the environment variable {env}"
        if value is None:
            raise ConfigError([f"{where} is not set"])
    elif file is not None:
        where = f"{path}_file: {file}"
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


def read_text(path: str) -> str:
    """Return the contents of a UTF-8 file; the usual `read` of `resolve_secrets`."""
    return Path(path).read_text(encoding="utf-8")


def resolve_secrets(
    settings: Settings, environ: Mapping[str, str], read: ReadText, *, stores_only: bool = False
) -> Secrets:
    """
    Return every secret that the settings refer to. TLS files are checked, not returned.

    Args:
        settings: The configuration.
        environ: The environment.
        read: Reads a file.
        stores_only: Skip the providers' credentials, TLS and the admin token, for processes that
            use only the stores.

    Raises:
        ConfigError: One line for each secret that is missing, empty or not a header value.
    """
    errors: list[str] = []

    def fetch(path: str, env: str | None, file: str | None) -> str | None:
        try:
            return secret(path, env, file, environ, read)
        except ConfigError as failure:
            errors.extend(failure.errors)
            return None

    credentials: dict[str, str] = {}
    for index, provider in enumerate(() if stores_only else settings.providers):
        path = f"providers[{index}].api_key"
        value = fetch(path, provider.api_key_env, provider.api_key_file)
        if value is None:
            continue
        if _HEADER_SAFE.match(value):
            credentials[provider.name] = value
        else:
            suffix = "env" if provider.api_key_env is not None else "file"
            errors.append(
                f"{path}_{suffix}: the value (not shown) has spaces, control or non-ASCII "
                "characters; use visible ASCII characters"
            )
    if not stores_only:
        fetch("server.tls_cert", None, settings.server.tls_cert_file)
        fetch("server.tls_key", None, settings.server.tls_key_file)
    redis, sql, admin = settings.redis, settings.sql, settings.admin
    token = None if stores_only else fetch("admin.token", admin.token_env, admin.token_file)
    if token is not None and not (_HEADER_SAFE.match(token) and len(token) >= _TOKEN_LENGTH):
        suffix = "env" if admin.token_env is not None else "file"
        errors.append(
            f"admin.token_{suffix}: the value (not shown) is not a token; use at least "
            f"{_TOKEN_LENGTH} visible ASCII characters"
        )
    secrets = Secrets(
        credentials,
        fetch("redis.password", redis.password_env, redis.password_file),
        fetch("sql.password", sql.password_env, sql.password_file),
        token,
    )
    if errors:
        raise ConfigError(errors)
    return secrets
