"""
Overrides single settings by environment variables: `CAPIO_SERVER__PORT=9000`.

The name is `CAPIO_`, then the parts of the setting's key path in upper case, joined by `__`. An
item of a list of tables is its index: `CAPIO_PROVIDERS__0__API_KEY_ENV`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec
import msgspec.inspect as types

from gateway.settings.errors import did_you_mean, join
from gateway.settings.reading import unwrapped

PREFIX = "CAPIO_"
SEPARATOR = "__"
Table = TypeVar("Table", bound=msgspec.Struct)


class _NoSettingError(Exception):
    """The variable names no setting; the message says why."""


def apply_environment(
    raw: dict[str, object], kind: type[Table], environ: Mapping[str, str], errors: list[str]
) -> dict[str, str]:
    """
    Set the settings that the environment overrides in the document `raw`.

    Values are checked later, with the rest of the document. A variable that an `_env` setting names
    as the place of a secret overrides nothing.

    Args:
        raw: The parsed file; changed.
        kind: The type of the document.
        environ: The environment.
        errors: Gets a line for each variable that names no setting.

    Returns:
        Key path of each overridden setting -> its variable.
    """
    found: dict[str, str] = {}
    names = sorted(name for name in environ if name.startswith(PREFIX) and SEPARATOR in name)
    if not names:
        return found
    info = types.type_info(kind)
    secrets = set(_secret_variables(raw))
    for name in names:
        if name in secrets:
            continue
        parts = name.removeprefix(PREFIX).split(SEPARATOR)
        try:
            found[_override(raw, info, parts, environ[name])] = name
        except _NoSettingError as failure:
            errors.append(f"{name}: {failure}")
    return found


def name_variables(errors: list[str], variables: Mapping[str, str]) -> list[str]:
    """Return the errors, each after the variable that overrides its setting, if there is one."""
    return [_named(error, variables) for error in errors]


def _named(error: str, variables: Mapping[str, str]) -> str:
    path = error.partition(": ")[0]
    for setting, variable in variables.items():
        if path == setting or path.startswith((f"{setting}.", f"{setting}[")):
            return f"{variable}: {error}"
    return error


def _override(raw: dict[str, object], info: types.Type, parts: list[str], text: str) -> str:
    """Set one setting; return its key path."""
    holder: object = raw
    key: str | int
    path = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        kind = unwrapped(info)
        match kind:
            case types.StructType():
                key, info = _field(kind, part, parts[:index])
                path = join(path, key)
            case types.ListType() if isinstance(unwrapped(kind.item_type), types.StructType):
                key, info = _index(holder, part, path), kind.item_type
                path = f"{path}[{key}]"
            case types.DictType():
                key, info = part.lower(), kind.value_type
                path = join(path, key)
            case _:
                raise _NoSettingError(f"{path} is not a table; end the name there")
        if is_last:
            _store(holder, key, read_value(text, info))
            return path
        if not isinstance(unwrapped(info), types.StructType | types.ListType | types.DictType):
            raise _NoSettingError(f"{path} is not a table; end the name there")
        holder = _descend(holder, key, unwrapped(info))
        if holder is None:
            raise _NoSettingError(f"{path} in the file is not a table, so it cannot be extended")
    raise _NoSettingError("names no setting")


def _field(kind: types.StructType, part: str, before: list[str]) -> tuple[str, types.Type]:
    known = {field.encode_name.upper(): field for field in kind.fields}
    field = known.get(part)
    if field is None:
        names = {PREFIX + SEPARATOR.join([*before, name]): name for name in known}
        hint = did_you_mean(PREFIX + SEPARATOR.join([*before, part]), names)
        raise _NoSettingError(f"there is no such setting{hint}")
    return field.encode_name, field.type


def _index(holder: object, part: str, path: str) -> int:
    count = len(holder) if isinstance(holder, list) else 0
    if not part.isdecimal() or int(part) >= count:
        raise _NoSettingError(
            f"{path} has {count} items in the file; give the index of one, from 0"
        )
    return int(part)


def _descend(holder: object, key: str | int, kind: types.Type) -> object:
    """Return the table or list at `key`, created if it is absent; None if it is something else."""
    if isinstance(holder, list) and isinstance(key, int):
        found: object = holder[key]
    elif isinstance(holder, dict):
        found = holder.setdefault(key, [] if isinstance(kind, types.ListType) else {})
    else:
        return None
    return found if isinstance(found, dict | list) else None


def _store(holder: object, key: str | int, value: object) -> None:
    if isinstance(holder, list) and isinstance(key, int):
        holder[key] = value
    else:
        assert isinstance(holder, dict)
        holder[key] = value


def read_value(text: str, kind: types.Type) -> object:
    """
    Return a variable's text as the type of its setting.

    Strings are taken as they are. All else is written as in TOML, except that a list of strings may
    also be separated by commas. Other text is returned as it is; the later check rejects it.
    """
    kind = unwrapped(kind)
    if isinstance(kind, types.Metadata):
        kind = kind.type
    match kind:
        case types.StrType() | types.LiteralType():
            return text
        case types.BoolType():
            text = text.lower()
        case types.ListType() if not text.lstrip().startswith("["):
            return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _secret_variables(raw: object) -> Iterator[str]:
    """Yield the variables that the document names as places of secrets."""
    items = (
        raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    )
    for key, value in items:
        if isinstance(value, str) and str(key).endswith("env"):
            yield value
        yield from _secret_variables(value)
