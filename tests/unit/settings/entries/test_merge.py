"""Entries of SQL beside the file's: precedence, errors, and what is served without them."""

import msgspec
import pytest

from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import parse
from gateway.settings.entries.merge import Merged, MergedEntry, StoredEntry, merge

FILE = parse("""
[[providers]]
name = "acme"
api_key_env = "ACME_API_KEY"
openai = { base_url = "https://api.acme.example/v1" }

[[models]]
name = "small"
aliases = ["tiny"]
deployments = [{ provider = "acme", model = "small-1" }]
""")
OPENAI = {"base_url": "https://api.other.example/v1"}


def provider(name: str, **body: object) -> StoredEntry:
    return StoredEntry(kind="provider", name=name, body={"openai": OPENAI, **body})


def model(name: str, *providers: str, **body: object) -> StoredEntry:
    deployments = [{"provider": each, "model": "m"} for each in providers or ("acme",)]
    return StoredEntry(kind="model", name=name, body={"deployments": deployments, **body})


def merged(*stored: StoredEntry) -> Merged:
    return merge(FILE, stored, capabilities)


def state(found: Merged, name: str, origin: str = "sql") -> MergedEntry:
    (entry,) = [each for each in found.entries if (each.name, each.origin) == (name, origin)]
    return entry


def test_without_entries_the_settings_are_the_files() -> None:
    found = merged()

    assert found.settings == FILE
    assert [(each.kind, each.name, each.origin) for each in found.entries] == [
        ("provider", "acme", "file"),
        ("model", "small", "file"),
    ]


def test_entries_follow_those_of_the_file_in_their_order() -> None:
    found = merged(model("large", "other"), provider("other"), model("huge", prices={"input": "2"}))

    assert [each.name for each in found.settings.providers] == ["acme", "other"]
    assert [each.name for each in found.settings.models] == ["small", "large", "huge"]
    assert found.settings.models[2].prices.input == "2"
    assert found.problems == []
    assert all(each.in_force for each in found.entries)


def test_the_file_takes_precedence_and_says_so() -> None:
    found = merged(provider("acme"), model("small", prices={"input": "9"}))

    assert found.settings == FILE
    for name in ("acme", "small"):
        entry = state(found, name)
        assert (entry.in_force, entry.overridden) == (False, True)
        assert "the configuration file has an entry of this name" in entry.problems[0]
        assert state(found, name, "file").in_force
    assert found.rejected == 0


def test_entries_that_cannot_be_served_are_counted() -> None:
    """Those that are served without a fallback are not among them."""
    found = merged(model("torn", deployments=[]), model("note", fallbacks=["none"]))

    assert len(found.problems) > 1
    assert (found.rejected, state(found, "note").in_force) == (1, True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"openai": {}}, "providers.bad.openai.base_url: missing"),
        ({"openai": {"base_url": "ftp://x"}}, "is not an absolute http:// or https:// URL"),
        (
            {"openai": {"base_url": "http://169.254.169.254/v1"}},
            "has a link-local, multicast or unspecified address",
        ),
        (
            {"openai": {"base_url": "http://public.example/v1"}},
            "would send the credential in clear text",
        ),
        ({"openai": OPENAI, "dialect": "x"}, "providers.bad.dialect: "),
        ({"openai": OPENAI, "keys": []}, "providers.bad.keys: unknown key"),
        ({"openai": OPENAI, "caps": {"images": 3}}, "providers.bad.caps.images: 3"),
        ({}, "providers.bad: no wire"),
        (None, "providers.bad: is not a JSON object"),
    ],
)
def test_an_invalid_provider_is_left_out_with_its_error(
    body: dict[str, object] | None, error: str
) -> None:
    found = merged(StoredEntry(kind="provider", name="bad", body=body), provider("good"))

    assert [each.name for each in found.settings.providers] == ["acme", "good"]
    assert error in "\n".join(state(found, "bad").problems)
    assert not state(found, "bad").in_force


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"aliases": ["tiny"]}, 'aliases[0]: "tiny" is already used by models[0] of the file'),
        ({"aliases": ["first"]}, 'aliases[0]: "first" is already used by models.first.name'),
        ({"prices": {"input": 1}}, "models.bad.prices.input: "),
        ({"max_output": 200, "context": 100}, "models.bad.max_output: 200 exceeds"),
        ({"deployments": []}, "models.bad.deployments: "),
        ({"deployments": [{"model": "x"}]}, "models.bad.deployments[0].provider: missing"),
    ],
)
def test_an_invalid_model_is_left_out_with_its_error(body: dict[str, object], error: str) -> None:
    found = merged(model("first"), model("bad", **body), model("good"))

    assert [each.name for each in found.settings.models] == ["small", "first", "good"]
    assert error in "\n".join(state(found, "bad").problems)


def test_the_names_of_an_entry_that_is_left_out_are_free() -> None:
    found = merged(model("bad", aliases=["nice"], max_output=9, context=1), model("nice"))

    assert [each.name for each in found.settings.models] == ["small", "nice"]


def test_a_model_is_served_without_a_deployment_whose_provider_is_left_out() -> None:
    broken = provider("broken", dialect="x")
    found = merged(broken, model("both", "broken", "acme", hedge={}), model("one", "broken"))

    both = found.settings.models[1]
    assert (both.name, [each.provider for each in both.deployments]) == ("both", ["acme"])
    assert both.hedge is None
    assert state(found, "both").in_force
    assert 'deployments[0].provider: "broken" is not a provider' in state(found, "both").problems[0]
    assert not state(found, "one").in_force
    assert len(found.settings.models) == 2


def test_fallbacks_to_models_that_are_not_in_force_are_left_out() -> None:
    found = merged(
        model("a", fallbacks=["b", "gone", "a", "small"]),
        model("b", fallbacks=["a"]),
        provider("p"),
    )

    a, b = found.settings.models[1:]
    assert (a.fallbacks, b.fallbacks) == (["b", "small"], ["a"])
    assert ["fallbacks[1]" in each for each in state(found, "a").problems] == [True, False]
    assert state(found, "b").problems == ()


def test_a_provider_whose_credential_is_missing_is_left_out() -> None:
    found = merge(
        FILE,
        [provider("other", api_key_env="OTHER_API_KEY"), model("large", "other")],
        None,
        lambda given, path: [f"{path}.api_key_env: not set"] if given.name == "other" else [],
    )

    assert found.settings == FILE
    assert state(found, "other").problems == ("providers.other.api_key_env: not set",)


def test_nothing_of_sql_is_served_if_the_setting_is_off() -> None:
    catalogue = msgspec.structs.replace(FILE.catalogue, sql=False)
    file = msgspec.structs.replace(FILE, catalogue=catalogue)

    assert merge(file, [provider("other"), model("large")]).settings == file
