"""`/models`: all models with prices, and a page for each; `.json` twins for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.library.site import ListedModel, find_model
from gateway.console.public.docs import JSON
from gateway.console.public.kept import page_response, text_response
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access

SORTS: Final = ("name", "context", "output", "input_price", "output_price")


async def show_all(page: Page) -> Response:
    """Respond with the list, sorted and filtered as the query says."""
    return page_response(page, "public/models.html", lambda: table_values(page))


def table_values(page: Page) -> dict[str, Any]:
    """Return the variables of the models' table: the selected rows, and the filters on offer."""
    models = page.services.public.site.models
    tag, sort = page.query("tag"), page.query("sort")
    tags = sorted({each for model in models for each in model.tags})
    chosen = [model for model in models if not tag or tag in model.tags]
    return {
        "models": sorted_models(chosen, sort),
        "tags": tags,
        "tag": tag if tag in tags else "",
        "sort": sort if sort in SORTS else "",
        "all_models": models,
    }


def sorted_models(models: Sequence[ListedModel], sort: str) -> list[ListedModel]:
    """Return models by name, or by a number in ascending order; otherwise in their given order."""
    if sort == "name":
        return sorted(models, key=lambda each: each.name.lower())
    if sort in ("context", "output"):
        size = "context" if sort == "context" else "max_output"
        return sorted(models, key=lambda each: int(getattr(each, size)), reverse=True)
    if sort in SORTS:
        side = sort.removesuffix("_price")
        return sorted(models, key=lambda each: each.nanousd(side))
    return list(models)


async def all_json(page: Page) -> Response:
    models = page.services.public.site.models
    return text_response(
        page,
        JSON,
        lambda: msgspec.json.encode({"object": "list", "data": [as_object(m) for m in models]}),
    )


async def show_one(page: Page) -> Response:
    """Respond with one model, or with its JSON if the path ends in `.json`."""
    name = page.path.removeprefix("/models/")
    models = page.services.public.site.models
    found = find_model(models, name)
    if found is not None:
        return page_response(
            page, "public/model.html", lambda: {"model": found, **snippets(page, found)}
        )
    twin = find_model(models, name.removesuffix(".json"))
    if twin is None or not name.endswith(".json"):
        raise HTTPException(404)
    return text_response(page, JSON, lambda: msgspec.json.encode(as_object(twin)))


def snippets(page: Page, model: ListedModel) -> dict[str, Any]:
    """Return how to call a model: with curl over both APIs, and with the SDKs."""
    from gateway.console.library.markdown import Snippet, marked  # noqa: PLC0415 -- loads Pygments

    site = page.services.public.site
    body = f'{{"model": "{model.name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    curl = (
        f"curl {site.base_url}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer ${site.key_variable}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )
    python = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{site.base_url}/v1", '
        f'api_key=os.environ["{site.key_variable}"])\n'
        "completion = client.chat.completions.create(\n"
        f'    model="{model.name}", messages=[{{"role": "user", "content": "Hello"}}]\n)\n'
        "print(completion.choices[0].message.content)"
    )
    claude = (
        f"export ANTHROPIC_BASE_URL={site.base_url}\n"
        f"export ANTHROPIC_AUTH_TOKEN=${site.key_variable}\n"
        'export ANTHROPIC_API_KEY=""\n'
        f"export ANTHROPIC_MODEL={site.settings.brand.model_prefix}{model.name}\nclaude"
    )
    return {
        "snippets": (
            ("curl", "curl", "Shell", marked(Snippet("sh", curl))),
            ("python", "Python", "pip install openai", marked(Snippet("python", python))),
            ("claude-code", "Claude Code", "Shell", marked(Snippet("sh", claude))),
        )
    }


def as_object(model: ListedModel) -> dict[str, Any]:
    """Return a model for programs; prices in dollars per million tokens."""
    prices = model.prices
    return {
        "object": "model",
        "name": model.name,
        "title": model.title,
        "description": model.description,
        "tags": list(model.tags),
        "aliases": list(model.aliases),
        "context": model.context,
        "max_output": model.max_output,
        "relayed": list(model.wires),
        "prices": None
        if prices is None
        else {
            name: None if text is None else text.replace("$", "").replace(",", "")
            for name, text in msgspec.structs.asdict(prices).items()
        },
    }


ROUTES = (
    Route("GET", "/models", Access.PUBLIC, show_all),
    Route("GET", "/models.json", Access.PUBLIC, all_json),
    Route("GET", "/models/{name:path}", Access.PUBLIC, show_one),
)
