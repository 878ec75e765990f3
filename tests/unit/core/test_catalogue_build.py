"""The catalogue: exact prices, ready headers, every name resolved."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import settings
from gateway.core.catalogue import USER_AGENT, build, route_headers
from gateway.core.model import Clocks, Origin, TokenPrices, Wire
from tests.support import vectors

EXAMPLE = Path(__file__).resolve().parents[3] / "capio.example.toml"

RESOLVE_VECTORS = [
    vector
    for vector in vectors.load("endpoint*", "endpoint")
    if not vector.values[0] or "resolve" in vector.values[0]["input"]
]

PROVIDER = settings.Provider(
    name="deepseek",
    dialect="deepseek",
    openai=settings.WireEndpoint(base_url="https://api.deepseek.com/v1/"),
    anthropic=settings.WireEndpoint(base_url="http://[::1]:9000/anthropic", count_tokens=False),
    headers={"X-Team": "blue"},
    max_connections=7,
    keepalive_s=5.0,
    timeouts=settings.Timeouts(connect_s=1, first_byte_s=2, first_content_s=3, idle_s=4, total_s=5),
)


def model(name: str, **more: Any) -> settings.Model:
    return settings.Model(
        name=name,
        deployments=[settings.Deployment(provider="deepseek", model=f"up-{name}")],
        **more,
    )


def catalogue_of(*models: settings.Model, prefix: str = "capio/") -> Any:
    return build(
        settings.Settings(
            brand=settings.Brand(model_prefix=prefix), providers=[PROVIDER], models=list(models)
        ),
        {"deepseek": ("K",)},
    )


def test_build_provider_gives_origin_path_and_headers_per_wire() -> None:
    """Both wires of a provider have their own address and the same credential."""
    (provider,) = catalogue_of(model("m")).providers

    openai, anthropic = provider.wires[Wire.OPENAI], provider.wires[Wire.ANTHROPIC]
    assert openai.origin == Origin(
        "api.deepseek.com", 443, tls=True, max_connections=7, keepalive_s=5.0
    )
    assert openai.base_path == "/v1"
    assert openai.headers == (
        (b"host", b"api.deepseek.com"),
        (b"authorization", b"Bearer K"),
        (b"user-agent", USER_AGENT),
        (b"accept-encoding", b"identity"),
        (b"x-team", b"blue"),
    )
    assert anthropic.label == "[::1]:9000"
    assert anthropic.base_path == "/anthropic"
    assert anthropic.headers[:2] == ((b"host", b"[::1]:9000"), (b"x-api-key", b"K"))
    assert not anthropic.count_tokens
    assert provider.clocks == Clocks(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("policy", "drains"), [(None, None), ("auto", None), ("cancel", False), ("drain", True)]
)
def test_build_policy_for_clients_that_leave(policy: Any, drains: bool | None) -> None:
    """Left to the model unless the settings say otherwise."""
    given = {} if policy is None else {"on_client_gone": policy}
    provider = msgspec.structs.replace(PROVIDER, **given)
    built = build(settings.Settings(providers=[provider], models=[model("m")]), {})

    assert built.providers[0].drains is drains


@pytest.mark.parametrize("where", ["model", "cost", "nowhere"])
def test_build_knows_whether_reasoning_has_a_price(where: str) -> None:
    """A price of reasoning is known even if it equals the price of output."""
    priced, plain = settings.Prices(output="2", reasoning="2"), settings.Prices(output="2")
    deployment = settings.Deployment(
        provider="deepseek", model="up-m", cost=priced if where == "cost" else plain
    )
    given = settings.Model(
        name="m", deployments=[deployment], prices=priced if where == "model" else plain
    )
    (built,) = catalogue_of(given).models

    assert built.deployments[0].prices_reasoning is (where != "nowhere")


def test_build_deployment_may_be_kept_to_one_wire() -> None:
    """Without a word a deployment speaks all its provider's wires."""
    kept = settings.Deployment(provider="deepseek", model="b", wires=["anthropic"])
    both = settings.Deployment(provider="deepseek", model="a")

    (built,) = catalogue_of(settings.Model(name="m", deployments=[both, kept])).models

    assert [each.wires for each in built.deployments] == [
        (Wire.OPENAI, Wire.ANTHROPIC),
        (Wire.ANTHROPIC,),
    ]
    assert built.deployments[1].label == "deepseek/b"


def test_build_prices_fall_back_to_their_class() -> None:
    """Cached input costs what input costs and reasoning what output costs, unless priced apart."""
    plain, apart = catalogue_of(
        model("plain", prices=settings.Prices(input="0.07", output="0.14")),
        model(
            "apart",
            prices=settings.Prices(
                input="1", output="2", cache_read="0", cache_write="1.25", reasoning="3"
            ),
        ),
    ).models

    assert (plain.prices.cache_read, plain.prices.cache_write) == (70_000_000, 70_000_000)
    assert plain.prices.reasoning == 140_000_000
    assert (apart.prices.cache_read, apart.prices.cache_write) == (0, 1_250_000_000)
    assert apart.prices.reasoning == 3_000_000_000


def test_headers_without_credential_send_none() -> None:
    """A local upstream may need no key."""
    assert route_headers("h", "bearer", None, {})[1] == (b"user-agent", USER_AGENT)


def test_headers_extra_user_agent_replaces_the_gateways() -> None:
    """Some upstreams admit only certain clients; a header never goes out twice."""
    headers = route_headers("h", "bearer", "K", {"User-Agent": "other/1"})

    assert [value for name, value in headers if name == b"user-agent"] == [b"other/1"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("flash", "flash"),
        ("capio/flash", "flash"),
        ("capio/flash[1m]", "flash"),
        ("flash[1m]", "flash"),
        ("deepseek/flash", "flash"),
        ("capio/deepseek/flash", "flash"),
        ("Flash", None),
        ("capio/capio/flash", None),
        ("flash[1m][1m]", None),
        ("flash[1M]", None),
        ("flash ", None),
        ("capio/", None),
        ("[1m]", None),
        ("", None),
    ],
)
def test_resolve_takes_off_prefix_and_suffix_once(asked: str, found: str | None) -> None:
    """Prefix, then `[1m]`, then names and aliases, case-sensitive."""
    catalogue = catalogue_of(model("flash", aliases=["deepseek/flash"]))

    resolved = catalogue.resolve(asked)

    assert (resolved and resolved.name) == found


def test_resolve_with_empty_prefix_takes_names_as_they_are() -> None:
    """With an empty prefix, names are public names or aliases only."""
    catalogue = catalogue_of(model("flash"), prefix="")

    assert catalogue.resolve("flash") is catalogue.models[0]
    assert catalogue.resolve("capio/flash") is None


@pytest.mark.parametrize("vector", RESOLVE_VECTORS)
def test_resolve_vector_gives_expected_model(vector: dict[str, Any]) -> None:
    """The wire vectors that ask for a name's model."""
    given_input = vector["input"]
    catalogue = catalogue_of(
        *(model(entry["id"], aliases=entry.get("aliases", [])) for entry in given_input["catalog"]),
        prefix=given_input["prefixes"][0],
    )

    resolved = catalogue.resolve(given_input["resolve"])

    assert (resolved and resolved.name) == vector["expect"]["model"]


def test_example_file_holds_the_services_catalogue() -> None:
    """The example is complete, valid, and asks for every credential by environment."""
    text = EXAMPLE.read_text("utf-8")
    given_settings = settings.parse(text)
    environ = {each.api_key_env: "k" for each in given_settings.providers if each.api_key_env}
    secrets = settings.resolve_secrets(given_settings, environ, EXAMPLE.read_text)

    catalogue = build(given_settings, secrets.providers)

    assert len(environ) == len(catalogue.providers)
    assert {each.name: each.context for each in catalogue.models} == {
        "deepseek-v4-flash": 1_000_000,
        "deepseek-v4-pro": 1_000_000,
        "gpt-5.5": 1_000_000,
        "kimi-k2.6": 262_144,
        "MiniMax-M3": 1_000_000,
        "claude-opus-4-8": 1_000_000,
        "gemini-3.1-pro": 1_048_576,
    }
    flash, minimax = (
        catalogue.resolve(f"capio/{name}") for name in ("deepseek-v4-flash", "MiniMax-M3")
    )
    assert flash is not None
    assert minimax is not None
    assert (flash.prices.input, flash.prices.output) == (70_000_000, 140_000_000)
    assert (minimax.prices.input, minimax.prices.output) == (300_000_000, 1_200_000_000)
    assert tomllib.loads(text)["brand"]["name"] == "Capio"


def test_build_prices_of_features() -> None:
    """Searches by the thousand, tiers in millionths, long context with its own rest."""
    prices = settings.Prices(
        input="3", output="15", cache_write="3.75", cache_write_1h="6", web_search="10",
        tiers={"priority": "2.5", "us": "1.1"},
        long_context=settings.LongContext(above=200_000, input="6", output="22.5"),
    )  # fmt: skip

    built = catalogue_of(model("m", prices=prices)).models[0].prices

    assert (built.cache_write_1h, built.web_search) == (6_000_000_000, 10_000_000_000)
    assert built.tiers == {"priority": 2_500_000, "us": 1_100_000}
    assert built.long_context_above == 200_000
    assert built.long_context == TokenPrices(
        input=6_000_000_000, output=22_500_000_000, cache_read=6_000_000_000,
        cache_write=6_000_000_000, reasoning=22_500_000_000, cache_write_1h=None,
    )  # fmt: skip


def test_build_without_prices_of_features_has_none() -> None:
    """An hour's cache follows the price of cache writes, see `core.pricing`."""
    built = catalogue_of(model("m")).models[0].prices

    assert (built.cache_write_1h, built.web_search, built.tiers) == (None, 0, {})
    assert built.long_context is None


@pytest.mark.parametrize(
    ("provider", "own", "usual", "reasoning"),
    [
        ({}, {}, Clocks(10, 600, 120, 300, 3600), Clocks(10, 600, 600, 600, 3600)),
        (
            {"first_content_s": 30, "connect_s": 1},
            {},
            Clocks(1, 600, 30, 300, 3600),
            Clocks(1, 600, 30, 600, 3600),
        ),
        (
            {"first_content_s": 30, "idle_s": 40, "first_byte_s": 50, "total_s": 60},
            {"first_content_s": 3, "idle_s": 4, "first_byte_s": 5, "total_s": 6},
            Clocks(10, 5, 3, 4, 6),
            Clocks(10, 5, 3, 4, 6),
        ),
        (
            {"idle_s": 40},
            {"first_content_s": 900},
            Clocks(10, 600, 900, 40, 3600),
            Clocks(10, 600, 900, 40, 3600),
        ),
    ],
)
def test_build_timeouts_of_the_model_replace_those_of_the_provider(
    provider: dict[str, float], own: dict[str, float], usual: Clocks, reasoning: Clocks
) -> None:
    """Where neither names one, calls that may reason unseen get more time."""
    changed = msgspec.structs.replace(PROVIDER, timeouts=settings.Timeouts(**provider))
    given = settings.Settings(
        providers=[changed], models=[model("m", timeouts=settings.ModelTimeouts(**own))]
    )
    (built,) = build(given, {}).models
    (deployment,) = built.deployments

    assert deployment.clocks_for(Wire.OPENAI, hides_reasoning=False) == usual
    assert deployment.clocks_for(Wire.OPENAI, hides_reasoning=True) == reasoning
    assert deployment.clocks_for(Wire.ANTHROPIC, hides_reasoning=True) == usual


def test_build_model_with_a_price_for_reasoning_hides_it_on_both_wires() -> None:
    """Otherwise an Anthropic stream is taken to send its thinking."""
    priced = model("m", prices=settings.Prices(reasoning="3"))
    (built,) = build(
        settings.Settings(
            providers=[msgspec.structs.replace(PROVIDER, timeouts=settings.Timeouts())],
            models=[priced],
        ),
        {},
    ).models

    clocks = built.deployments[0].clocks_for(Wire.ANTHROPIC, hides_reasoning=True)
    assert (clocks.first_content_s, clocks.idle_s) == (600, 600)
