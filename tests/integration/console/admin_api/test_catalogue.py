"""`/admin/providers` and `/admin/models` on a real database: checks, precedence, audit, access."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import httpx2
import msgspec
import pytest

from gateway.console.admin_api.api import AdminApi
from gateway.console.admin_api.catalogue import AdminCatalogue
from gateway.core.routing.live import LiveReport
from gateway.operations.service import catalogue as module
from gateway.operations.service.catalogue import CatalogueOperations
from gateway.settings import Settings, parse
from gateway.store.accounts.audit import AuditLog
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.redis.client import RedisUnavailable
from gateway.store.sql.database import Database

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
FILE = parse("""
[[providers]]
name = "acme"
api_key_env = "ACME_API_KEY"
headers = { x-region = "eu" }
openai = { base_url = "https://api.acme.example/v1" }

[[models]]
name = "small"
deployments = [{ provider = "acme", model = "small-1" }]
""")
PROVIDER = {"openai": {"base_url": "https://api.new.example/v1"}, "api_key_env": "NEW_API_KEY"}
MODEL = {"deployments": [{"provider": "new", "model": "m"}], "prices": {"input": "1"}}


class Workers:
    """Two workers that serve what is announced, and Redis, which may be unavailable."""

    def __init__(self) -> None:
        self.is_away = False
        self.revision = ""
        self.problems: tuple[str, ...] = ()
        self.slow = 0
        self.announced: list[StoredCatalogue] = []

    async def announce(self, catalogue: StoredCatalogue) -> bool:
        self.announced.append(catalogue)
        self.revision = catalogue.revision
        return not self.is_away

    async def read(self) -> Sequence[LiveReport]:
        if self.is_away:
            raise RedisUnavailable("lost")
        revisions = [self.revision, "old" if self.slow else self.revision]
        return [
            LiveReport(
                worker=str(number),
                pod="p",
                version="1",
                running=0,
                catalogue=revision,
                problems=self.problems,
            )
            for number, revision in enumerate(revisions)
        ]


class Api:
    """The API, and a client for it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.file: Settings = FILE
        self.workers = Workers()
        workers = cast("Any", self.workers)
        operations = CatalogueOperations(
            CatalogueRecords(database), workers, workers, lambda: self.file, lambda _: None
        )
        admin = AdminApi(TOKEN, AdminCatalogue(operations).routes())
        transport = httpx2.ASGITransport(cast("Any", admin), client=("127.0.0.1", 1234))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://gateway.test")

    async def send(
        self, method: str, path: str, body: object = None, status: int = 200, token: str = TOKEN
    ) -> Any:
        """Return the JSON of a response."""
        headers = {"authorization": f"Bearer {token}"}
        response = await self.client.request(method, f"/admin/{path}", json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    async def refused(self, method: str, path: str, body: object, status: int) -> tuple[str, str]:
        """Return the code and the parameter of an error."""
        error = (await self.send(method, path, body, status))["error"]
        return error["code"], error["param"]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    made = Api(database)
    yield made
    await made.client.aclose()


async def test_entries_are_created_read_replaced_and_deleted(api: Api) -> None:
    """Lists have the file's entries first; each entry names its origin."""
    added = await api.send("PUT", "providers/new", PROVIDER, 201)
    assert (added["object"], added["name"], added["origin"]) == ("provider", "new", "sql")
    assert (added["in_force"], added["overridden_by_file"], added["problems"]) == (True, False, [])
    assert added["settings"] == PROVIDER
    assert (added["published"], added["workers"]) == (True, {"serving": 2, "total": 2})
    await api.send("PUT", "models/team/new", {**MODEL, "name": "team/new"}, 201)
    changed = await api.send("PUT", "models/team/new", {**MODEL, "context": 9000})
    assert changed["settings"]["context"] == 9000

    listed = await api.send("GET", "models")
    assert [(each["origin"], each["name"]) for each in listed["data"]] == [
        ("file", "small"),
        ("sql", "team/new"),
    ]
    assert (listed["has_more"], listed["next"]) == (False, None)
    assert await api.send("GET", "models/team/new") == {
        key: value for key, value in changed.items() if key not in ("published", "workers")
    }
    of_file = await api.send("GET", "providers/acme")
    assert of_file["settings"]["headers"] == {"x-region": "***"}
    assert of_file["created_at"] is None

    deleted = await api.send("DELETE", "models/team/new")
    assert (deleted["object"], deleted["name"]) == ("model.deleted", "team/new")
    assert await api.refused("GET", "models/team/new", None, 404) == ("entry_not_found", None)
    assert await api.refused("DELETE", "models/team/new", None, 404) == ("entry_not_found", None)
    assert len(api.workers.announced) == 4
    entries = await AuditLog(api.database).list()
    assert [each.action for each in entries] == [
        "model.delete",
        "model.change",
        "model.create",
        "provider.create",
    ]
    assert {each.actor for each in entries} == {"admin"}


async def test_pages_of_a_list_follow_each_other(api: Api) -> None:
    """`next` is the cursor of the following page; one that is gone is refused."""
    for name in ("a", "b"):
        await api.send("PUT", f"providers/{name}", PROVIDER, 201)

    first = await api.send("GET", "providers?limit=2")
    second = await api.send("GET", f"providers?limit=2&after={first['next']}")
    assert [each["name"] for each in first["data"] + second["data"]] == ["acme", "a", "b"]
    assert second["has_more"] is False
    only = await api.send("GET", "providers?origin=sql")
    assert [each["name"] for each in only["data"]] == ["a", "b"]
    assert (await api.refused("GET", "providers?after=sql:x", None, 400))[1] == "after"
    assert (await api.refused("GET", "providers?origin=x", None, 400))[1] == "origin"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("providers/bad", {**PROVIDER, "openai": {"base_url": "ftp://x"}}, "openai.base_url"),
        ("providers/bad", {**PROVIDER, "api_key": "sk-1"}, "api_key"),
        ("providers/bad", {**PROVIDER, "api_key_env": "HOME"}, "api_key_env"),
        ("providers/bad", {**PROVIDER, "api_key_env": "ACME_API_KEY"}, "api_key_env"),
        ("providers/bad", {**PROVIDER, "name": "other"}, "name"),
        ("providers/b%d", PROVIDER, None),
        ("providers/bad", {**PROVIDER, "headers": {"x-api-key": "a"}}, "headers.x-api-key"),
        ("providers/acme", {**PROVIDER, "api_key_env": "ACME_API_KEY"}, "api_key_env"),
        ("models/bad", {"deployments": [{"provider": "no", "model": "m"}]},
         "deployments[0].provider"),
        ("models/bad", {**MODEL, "prices": {"input": "-1"}}, "prices.input"),
        ("models/bad", {**MODEL, "fallbacks": ["gone"]}, "fallbacks[0]"),
        ("models/bad", {**MODEL, "aliases": ["small"]}, "aliases[0]"),
        ("models/small", {**MODEL, "max_output": 9, "context": 1}, "max_output"),
    ],
)  # fmt: skip
async def test_errors_name_the_field(api: Api, path: str, body: object, param: str | None) -> None:
    """Nothing is changed; a value that may be a secret is not repeated."""
    await api.send("PUT", "providers/new", PROVIDER, 201)

    response = await api.client.put(
        f"/admin/{path}", json=body, headers={"authorization": f"Bearer {TOKEN}"}
    )

    if param is None:
        assert response.status_code == 404
        return
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, "invalid_entry")
    assert "sk-1" not in error["message"]
    assert len(api.workers.announced) == 1


async def test_entry_of_the_file_is_in_force_and_cannot_be_deleted(api: Api) -> None:
    """An entry may be put into SQL before it is removed from the file."""
    await api.send("PUT", "providers/new", PROVIDER, 201)
    put = await api.send("PUT", "models/small", MODEL, 201)
    assert (put["in_force"], put["overridden_by_file"]) == (False, True)
    assert "the configuration file has an entry of this name" in put["problems"][0]
    assert (await api.send("GET", "models/small"))["origin"] == "file"
    assert (await api.send("GET", "models/small?origin=sql"))["settings"] == MODEL
    await api.send("DELETE", "models/small")
    assert await api.refused("DELETE", "models/small", None, 409) == ("entry_of_file", None)

    await api.send("PUT", "models/small", MODEL, 201)
    api.file = msgspec.structs.replace(FILE, models=[])
    assert (await api.send("GET", "models/small"))["in_force"] is True


async def test_change_that_takes_another_entry_out_of_force_is_refused(api: Api) -> None:
    """A provider with models, or a model that is a fallback; broken entries hinder nothing."""
    await api.send("PUT", "providers/new", PROVIDER, 201)
    await api.send("PUT", "models/one", MODEL, 201)
    await api.send("PUT", "models/two", {**MODEL, "fallbacks": ["one"]}, 201)

    assert await api.refused("DELETE", "providers/new", None, 409) == ("entry_in_use", None)
    assert await api.refused("DELETE", "models/one", None, 409) == ("entry_in_use", None)
    only = {"anthropic": {"base_url": "https://api.new.example"}, "api_key_env": "NEW_API_KEY"}
    wired = {**MODEL, "deployments": [{**MODEL["deployments"][0], "wires": ["openai"]}]}  # type: ignore[index]
    await api.send("PUT", "models/two", wired)
    assert await api.refused("PUT", "providers/new", only, 409) == ("entry_in_use", None)

    await api.send("PUT", "providers/other", PROVIDER, 201)
    api.file = msgspec.structs.replace(FILE, models=[*FILE.models[:0]])
    await api.send("DELETE", "models/two")
    await api.send("DELETE", "models/one")
    await api.send("DELETE", "providers/new")


async def test_state_of_the_workers_is_part_of_the_outcome(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that lacks the credential, one that is late, and Redis that is unavailable."""
    monkeypatch.setattr(module, "APPLY_S", 0.1)
    missing = "providers.new.api_key_env: the environment variable NEW_API_KEY is not set"
    api.workers.problems = (missing, "providers.newer.api_key_env: x")
    added = await api.send("PUT", "providers/new", PROVIDER, 201)
    assert added["problems"] == [missing]

    api.workers.slow = 1
    late = await api.send("PUT", "providers/new", PROVIDER)
    assert (late["published"], late["workers"]) == (True, {"serving": 1, "total": 2})
    state = await api.send("GET", "catalogue")
    assert state == {
        "object": "catalogue",
        "revision": api.workers.revision,
        "workers": {"serving": 1, "total": 2},
    }

    api.workers.is_away = True
    away = await api.send("PUT", "providers/new", PROVIDER)
    assert (away["published"], away["workers"]) == (False, {"serving": 0, "total": 0})


async def test_nothing_is_changed_if_the_catalogue_in_sql_is_off(api: Api) -> None:
    """The file's entries can be read."""
    off = msgspec.structs.replace(FILE.catalogue, sql=False)
    api.file = msgspec.structs.replace(FILE, catalogue=off)

    assert await api.refused("PUT", "providers/new", PROVIDER, 409) == ("catalogue_off", None)
    assert await api.refused("DELETE", "providers/new", None, 409) == ("catalogue_off", None)
    assert len((await api.send("GET", "providers"))["data"]) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["providers/new", "models/new"])
async def test_only_operators_have_access(api: Api, method: str, path: str) -> None:
    """Without the operators' token nothing is read or changed."""
    await api.send(method, path, PROVIDER, 401, token="x" * 40)

    assert api.workers.announced == []
