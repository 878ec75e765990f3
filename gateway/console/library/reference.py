"""Writes the reference of an API as Markdown: one page per operation, and an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from gateway.console.library.sources import ROOT, Source
from gateway.console.openapi.document import schemas
from gateway.console.openapi.errors import ERROR_TEXTS, status_of
from gateway.console.openapi.operation import Api, Operation
from gateway.errors import SURFACES

_NESTED: Final = 2
_LONGEST: Final = 70
_REF: Final = "#/components/schemas/"


class Reference:
    """
    The pages of one API.

    Args:
        api: Its operations.
        folder: The folder of its pages: `api` or `admin-api`.
        section: Their section.
        key_variable: Environment variable of the key in curl lines.
        document: Path of the OpenAPI document.
    """

    def __init__(
        self, api: Api, folder: str, section: str, key_variable: str, document: str
    ) -> None:
        self._api = api
        self._path = f"{ROOT}/{folder}"
        self._section = section
        self._variable = key_variable
        self._document = document
        self._schemas: dict[str, Any] = schemas(api)

    def sources(self) -> list[Source]:
        """Return the index, then a page for each operation."""
        index = Source(
            path=f"{self._path}/reference" if self._path.endswith("admin-api") else self._path,
            title="Reference",
            description=self._api.description.split(". ")[0] + ".",
            section=self._section,
            order=0,
            body=self._index(),
        )
        pages = [
            Source(
                path=f"{self._path}/{each.slug}",
                title=each.title,
                description=each.description.split(". ")[0].rstrip(".") + ".",
                section=self._section,
                order=order,
                body=self._page(each),
            )
            for order, each in enumerate(self._api.operations, 1)
        ]
        return [index, *pages]

    def _index(self) -> str:
        parts = [f"{self._api.description}\n"]
        for tag, text in self._api.tags.items():
            rows = "".join(
                f"| `{each.method}` | `{each.path}` | [{each.title}]({self._path}/{each.slug}) |\n"
                for each in self._api.operations
                if each.tag == tag
            )
            parts.append(
                f"## {tag}\n\n{text}\n\n| method | path | what |\n| --- | --- | --- |\n{rows}"
            )
        url = f"{self._api.base_url}{self._document}"
        parts.append(f"## OpenAPI\n\nThe whole API as an OpenAPI 3.1 document: [{url}]({url})\n")
        return "\n".join(parts)

    def _page(self, operation: Operation) -> str:
        # The first sentence is the page's description, which stands above its body.
        rest = operation.description.partition(". ")[2]
        parts = [
            f'```http title="Endpoint"\n{operation.method} {operation.path}\n```\n',
            f"{rest}\n" if rest else "",
            f'## Example\n\n```sh title="Request"\n{self._curl(operation)}\n```\n',
        ]
        if operation.example.response is not None:
            shown = json.dumps(operation.example.response, indent=2, ensure_ascii=False)
            parts.append(f'```json title="{operation.success.status} response"\n{shown}\n```\n')
        if operation.parameters:
            rows = "".join(
                f"| `{each.name}` | {each.where} | {each.type} | {each.description} |\n"
                for each in operation.parameters
            )
            head = "| name | in | type | meaning |\n| --- | --- | --- | --- |\n"
            parts.append(f"## Parameters\n\n{head}{rows}")
        if operation.request is not None:
            parts.append(f"## Request body\n\n{self._members(operation.request.__name__)}")
        parts.append(self._responses(operation))
        parts.append(_errors(operation))
        return "\n".join(parts)

    def _responses(self, operation: Operation) -> str:
        success = operation.success
        text = f"## Response\n\n{self._members(success.shape.__name__)}"
        if success.event is not None:
            text += (
                "\n### Events\n\nWith `stream`, server-sent events whose data is:\n\n"
                f"{self._members(success.event.__name__)}"
            )
        if success.alternative is not None:
            text += f"\n### Anthropic's shape\n\n{self._members(success.alternative.__name__)}"
        return text

    def _members(self, name: str) -> str:
        rows = "".join(self._rows(name, "", 0))
        return (
            f"{self._schemas[name].get('description', '')}\n\n"
            f"| member | type | required | meaning |\n| --- | --- | --- | --- |\n{rows}"
        )

    def _rows(self, name: str, prefix: str, depth: int) -> Iterator[str]:
        schema = self._schemas[name]
        required = schema.get("required", [])
        for member, given in schema.get("properties", {}).items():
            meaning = _meaning(given)
            is_required = "yes" if member in required else ""
            inner, suffix = _inner(given)
            if not meaning and inner:
                meaning = self._schemas[inner].get("description", "")
            yield f"| `{prefix}{member}` | {self._type(given)} | {is_required} | {meaning} |\n"
            if inner and depth < _NESTED:
                yield from self._rows(inner, f"{prefix}{member}{suffix}.", depth + 1)

    def _type(self, schema: dict[str, Any]) -> str:
        if "anyOf" in schema:
            kinds = [self._type(each) for each in schema["anyOf"]]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
        if "$ref" in schema:
            target = self._schemas[schema["$ref"].removeprefix(_REF)]
            return self._type(target)
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return " or ".join(f"`{json.dumps(each)}`" for each in values)
        kind = str(schema.get("type", "any"))
        if kind == "array":
            items = schema.get("items", {})
            return f"list of {self._type(items)}" if items else "list"
        return kind

    def _curl(self, operation: Operation) -> str:
        example = operation.example
        path = operation.path
        for name, value in example.path.items():
            path = path.replace(f"{{{name}}}", value)
        query = "&".join(f"{name}={value}" for name, value in example.query.items())
        url = f"{self._api.base_url}{path}" + (f"?{query}" if query else "")
        method = "" if operation.method in ("GET", "POST") else f"-X {operation.method} "
        if operation.method == "POST" and example.body is None:
            method = "-X POST "
        quoted = f'"{url}"' if query else url
        lines = [f"curl {method}{quoted}", f'  -H "Authorization: Bearer ${self._variable}"']
        if example.body is not None:
            lines.append('  -H "Content-Type: application/json"')
            lines.append(f"  -d '{_json(example.body)}'")
        return " \\\n".join(lines)


def _json(body: dict[str, Any]) -> str:
    """Return a body on one line, or with a member per line where that would be too long."""
    line = json.dumps(body, ensure_ascii=False)
    if len(line) <= _LONGEST:
        return line
    members = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in body.items()
    )
    return f"{{\n{members}\n  }}"


def _inner(schema: dict[str, Any]) -> tuple[str | None, str]:
    """Return the struct of a member, and the prefix of its members' names: `messages[].role`."""
    for each in [schema, *schema.get("anyOf", [])]:
        if "$ref" in each:
            return each["$ref"].removeprefix(_REF), ""
        if "$ref" in each.get("items", {}):
            return each["items"]["$ref"].removeprefix(_REF), "[]"
    return None, ""


def _meaning(schema: dict[str, Any]) -> str:
    """Return the description of a member; if it may be null, it is one level below."""
    found = (each.get("description") for each in (schema, *schema.get("anyOf", [])))
    return next(filter(None, found), "").replace("|", "\\|")


def _errors(operation: Operation) -> str:
    rows = ""
    for kind in sorted(operation.errors, key=lambda each: status_of(each, operation.wire)):
        code = SURFACES[kind].openai_code
        shown = SURFACES[kind].anthropic_type if operation.wire.value == "anthropic" else code
        status = status_of(kind, operation.wire)
        rows += (
            f"| {status} | {f'`{shown}`' if shown else ''} | "
            f"[{kind.value}]({ROOT}/errors#{kind.value}) | {ERROR_TEXTS[kind].remedy} |\n"
        )
    column = "type" if operation.wire.value == "anthropic" else "code"
    head = f"| status | {column} | kind | what to do |\n| ---: | --- | --- | --- |\n"
    return f"## Errors\n\n{head}{rows}"
