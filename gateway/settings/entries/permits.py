"""
What a provider in SQL may not do although one in the file may.

The author of the file can read every secret of the gateway anyway. A holder of the operators'
token cannot, so a provider in SQL must not send any secret to a host of its choice.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

import msgspec

from gateway.settings.errors import NOT_SHOWN, is_secret_name, join, shown
from gateway.settings.schema import Provider, Settings
from gateway.settings.secrets import credential_settings
from gateway.settings.urls import HttpUrl, split_http_url


def check_permits(provider: Provider, path: str, file: Settings) -> Iterator[str]:
    """
    Yield one line for each setting that a provider in SQL may not have.

    Args:
        provider: Without other errors.
        path: Its key path.
        file: The settings of the file.
    """
    env_names, files = _reserved(file)
    for start, env, name in credential_settings(provider, path):
        where = f"{start}{'.' if start.endswith(']') else '_'}{'file' if env is None else 'env'}"
        if env is not None:
            yield from _check_env(where, env, file, env_names)
        elif name is not None:
            yield from _check_file(where, name, file, files)
        for other in file.providers:
            if _names(other, env, name) and not _targets(provider) <= _targets(other):
                yield (
                    f"{where}: the credential of provider {other.name} of the file is for its own "
                    "hosts only; use another variable or file"
                )
    for header in provider.headers:
        if is_secret_name(header):
            yield (
                f"{join(f'{path}.headers', header)}: {NOT_SHOWN} looks like a credential, which "
                "SQL must not contain; define this provider in the file"
            )


def _check_env(where: str, env: str, file: Settings, reserved: Collection[str]) -> Iterator[str]:
    # The value is not shown, because people paste the secret itself here.
    patterns = file.catalogue.credential_env
    if env in reserved:
        yield f"{where}: this variable holds another secret of the gateway; use one of its own"
    elif not any(fnmatchcase(env, pattern) for pattern in patterns):
        allowed = ", ".join(shown(pattern) for pattern in patterns) or "none"
        yield (
            f"{where}: {NOT_SHOWN} is not among the variables that catalogue.credential_env allows "
            f"({allowed}); rename the variable, or extend the setting"
        )


def _check_file(where: str, name: str, file: Settings, reserved: Collection[str]) -> Iterator[str]:
    directories = file.catalogue.credential_dirs
    if name in reserved:
        yield f"{where}: this file holds another secret of the gateway; use one of its own"
    elif posixpath.normpath(name) != name or not any(
        name.startswith(f"{directory.rstrip('/')}/") for directory in directories
    ):
        allowed = ", ".join(shown(directory) for directory in directories) or "none"
        yield (
            f"{where}: {shown(name)} is in none of the directories that catalogue.credential_dirs "
            f"allows ({allowed}); give a full path, or extend the setting"
        )


def _targets(provider: Provider) -> set[tuple[HttpUrl, str | None]]:
    """Return where a provider's credential is sent: origins, and the proxy before them."""
    wires = [wire for wire in (provider.openai, provider.anthropic) if wire is not None]
    return {
        (split_http_url(wire.base_url)._replace(path=""), provider.proxy)
        for wire in wires
        if wire.base_url
    }


def _names(provider: Provider, env: str | None, file: str | None) -> bool:
    return any(
        (env is not None and env == other) or (file is not None and file == path)
        for _, other, path in credential_settings(provider, "")
    )


def _reserved(settings: Settings) -> tuple[set[str], set[str]]:
    """Return the variables and files with secrets of other sections."""
    env_names: set[str] = set()
    files: set[str] = set()

    def visit(section: msgspec.Struct) -> None:
        for name in section.__struct_fields__:
            value = getattr(section, name)
            if isinstance(value, msgspec.Struct):
                visit(value)
            elif isinstance(value, str) and name.endswith("_env"):
                env_names.add(value)
            elif isinstance(value, str) and name.endswith("_file"):
                files.add(value)

    visit(settings)  # providers and models are lists, which are not visited
    return env_names, files
