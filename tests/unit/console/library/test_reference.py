"""Pages of the API are written from its operations."""

from __future__ import annotations

from gateway.console.library.reference import Reference
from tests.support.openapi import CLIENTS
from tests.support.pages import demo_library


def page(slug: str) -> str:
    """The Markdown of one operation's page."""
    return demo_library().pages[f"/docs/api/{slug}"].markdown


def test_page_shows_a_curl_line_of_the_example() -> None:
    """With the method where curl would choose another, path values and the query."""
    assert (
        "curl http://127.0.0.1:8080/v1/chat \\\n"
        '  -H "Authorization: Bearer $CAPIO_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        """  -d '{"model": "deepseek-v4-flash", "input": "Tell me a short joke."}'\n"""
    ) in page("create-chat")
    assert "curl -X DELETE http://127.0.0.1:8080/v1/responses/resp_68af4030 \\" in page(
        "delete-response"
    )
    assert 'curl "http://127.0.0.1:8080/v1/usage?from=2026-11-01&group_by=model"' in page(
        "get-usage"
    )


def test_page_lists_members_with_types_and_nested_ones() -> None:
    """Required members are marked; a member that may be absent does not read `or null`."""
    text = page("create-chat-completion")

    assert "| `model` | string | yes | Name or alias of a model" in text
    assert "| `messages[].role` | string | yes | `system`, `developer`," in text
    assert "| `stream` | boolean |  | Send the response as server-sent events" in text
    assert "| `stop` | string or list of string |  | Texts at which" in text


def test_page_lists_errors_in_the_dialect_of_its_path() -> None:
    """Sorted by status, linked to the page of errors."""
    openai, anthropic = page("create-chat-completion"), page("create-message")
    errors = "http://127.0.0.1:8080/docs/errors.md"

    assert f"| 429 | `insufficient_quota` | [no_credit]({errors}#no_credit) | Add credit" in openai
    assert f"| 402 | `billing_error` | [no_credit]({errors}#no_credit) | Add credit" in anthropic


def test_index_lists_every_operation_once() -> None:
    """By tag, with method, path and link."""
    index, *pages = Reference(CLIENTS, "api", "API", "KEY", "/openapi.json").sources()

    assert len(pages) == len(CLIENTS.operations)
    for operation, each in zip(CLIENTS.operations, pages, strict=True):
        row = f"| `{operation.method}` | `{operation.path}` | [{operation.title}]({each.path}) |"
        assert index.body.count(row) == 1
