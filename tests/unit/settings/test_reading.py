"""Reading a configuration: every error of shape is one line with path, value and remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import ConfigError, Settings, load, parse
from gateway.settings.errors import shown
from gateway.settings.reading import read_table
from gateway.settings.rules import check_rules

VALID = """
[[providers]]
name = "deepseek"
openai = { base_url = "https://api.deepseek.com/v1" }

[[models]]
name = "flash"
deployments = [{ provider = "deepseek", model = "deepseek-chat" }]
"""


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text)
    return raised.value.errors


def test_parse_shortest_file_fills_all_defaults() -> None:
    """A provider and a model are enough; the rest has defaults."""
    settings = parse(VALID)

    assert settings.server == Settings().server
    assert settings.models[0].deployments[0].model == "deepseek-chat"
    assert settings.models[0].context == 128_000


def test_parse_whole_seconds_become_floats() -> None:
    """A number of seconds may be written without a point."""
    settings = parse(VALID + "\n[server]\ngrace_s = 30\n")

    assert settings.server.grace_s == 30.0
    assert isinstance(settings.server.grace_s, float)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            "[server]\nport = 70000",
            "server.port: 70000 is not a whole number from 1 to 65535",
        ),
        (
            "[server]\nport = true",
            "server.port: true is not a whole number from 1 to 65535",
        ),
        (
            "[server]\nport = 80.0",
            "server.port: 80.0 is not a whole number from 1 to 65535",
        ),
        (
            "[server]\ngrace_s = 0",
            "server.grace_s: 0 is not a number above 0, at most 86400",
        ),
        (
            "[server]\ngrace_s = nan",
            "server.grace_s: nan is not a number above 0, at most 86400",
        ),
        (
            "[server]\nhost = ''",
            'server.host: "" is not a string in quotes of 1 to 1000 characters',
        ),
        ("[keys]\nnear_entries = 'many'", 'keys.near_entries: "many" is not a whole number from 1'),
        ("server = 5", "server: 5 is not a table"),
        (
            "[sql]\nulr = 'embedded'",
            'sql.ulr: unknown key, set to "embedded"; known: book_directly_after_s, '
            "ledger_rest_ms, migrate, password_env, password_file, pool_size, "
            "transaction_pooler, url, usage_retention_days (did you mean url?)",
        ),
        (
            "[redis]\npassword = 'hunter2'",
            "redis.password: unknown key, set to the value (not shown, it may be a secret); known",
        ),
        (
            "[sql]\npassword_env = 'p4ss-word'",
            "sql.password_env: the value (not shown, it may be a secret) is not the name of an "
            "environment variable",
        ),
        (
            f"[server]\nport = 0x{'f' * 5000}",
            "server.port: a huge number is not a whole number from 1 to 65535",
        ),
    ],
)
def test_parse_wrong_value_names_path_value_and_remedy(lines: str, error: str) -> None:
    """One wrong value is one line: where, what it is, what is allowed."""
    (line,) = errors_of(lines + VALID if lines[0] == "s" else VALID + lines)

    assert line.startswith(error)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            'name = "deepseek"',
            'name = "deepseek"\ndialect = "deepsek"',
            'providers[0].dialect: "deepsek" is not one of anthropic, anthropic-legacy, azure, '
            "deepseek, gemini, generic, groq, minimax, mistral, moonshot, openai, openrouter, "
            "qwen, vllm, xai, zai (did you mean deepseek?)",
        ),
        (
            'name = "flash"',
            'name = "flash"\nprices = { input = 0.07 }',
            'models[0].prices.input: 0.07 is not a decimal in quotes like "0.07", below 100000, '
            "at most nine decimals",
        ),
        (
            'name = "flash"',
            'name = "flash"\nprices = { output = "-1" }',
            'models[0].prices.output: "-1" is not a decimal in quotes like "0.07", below 100000,'
            " at most nine decimals",
        ),
        (
            'name = "flash"',
            'name = "flash"\naliases = ["ok", "not ok"]',
            'models[0].aliases[1]: "not ok" is not a name of at most 128 letters, digits and '
            ". _ : / @ + -",
        ),
        (
            ', model = "deepseek-chat"',
            "",
            "models[0].deployments[0].model: missing; expected a name of at most 256 visible ASCII "
            "characters",
        ),
        (
            'deployments = [{ provider = "deepseek", model = "deepseek-chat" }]',
            "deployments = []",
            "models[0].deployments: an empty list is not a list of at least one table",
        ),
        (
            'deployments = [{ provider = "deepseek", model = "deepseek-chat" }]',
            'deployments = [{ provider = "deepseek", model = "deepseek-chat" }, "gpt"]',
            'models[0].deployments[1]: "gpt" is not a table',
        ),
        (
            '"deepseek-chat" }',
            '"deepseek-chat", wires = ["opnai"] }',
            'models[0].deployments[0].wires[0]: "opnai" is not one of anthropic, openai '
            "(did you mean openai?)",
        ),
    ],
)
def test_parse_error_inside_lists_names_the_index(old: str, new: str, error: str) -> None:
    """Key paths count the tables of a list from zero."""
    text = VALID.replace(old, new)

    assert errors_of(text) == [error]


def test_parse_many_mistakes_reports_all_at_once() -> None:
    """All invalid settings are reported in one error."""
    text = VALID + "[server]\nport = 0\nworkers = 0\n[brand]\nnme = 'x'\n[metrics]\nport = 8080\n"

    paths = {line.split(":")[0] for line in errors_of(text)}

    assert paths == {"server.port", "server.workers", "brand.nme", "metrics.port"}


def test_parse_empty_file_asks_for_providers_and_models() -> None:
    """An empty file is refused: it may be a truncated one."""
    assert errors_of("") == [
        f"{part}: missing; expected at least one [[{part}]] table, or catalogue.sql_only = true if "
        "all are in SQL"
        for part in ("providers", "models")
    ]


def test_parse_file_without_a_catalogue_says_so() -> None:
    """Then it must have none, and SQL be used; the environment may say it as well."""
    only = "[catalogue]\nsql_only = true\n"

    assert parse(only).models == []
    assert parse("", environ={"CAPIO_CATALOGUE__SQL_ONLY": "true"}).providers == []
    assert errors_of(VALID + only) == [
        f"catalogue.sql_only: the file has [[{part}]] tables; remove them or set it to false"
        for part in ("providers", "models")
    ]
    assert errors_of(only + "sql = false") == ["catalogue.sql_only: requires catalogue.sql = true"]


@pytest.mark.parametrize(
    "text", ["a =", "a = 1\na = 2", "a = " + "[" * 50_000, "a = " + "1" * 5000]
)
def test_parse_what_is_no_toml_is_one_error(text: str) -> None:
    """A syntax error, nesting and digits without end are errors, not crashes."""
    (line,) = errors_of(text)

    assert line.startswith("not TOML: ")


def test_load_unreadable_file_is_a_error(tmp_path: Path) -> None:
    """A missing file and one that is no text name the path."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = \xff")

    for path, reason in [
        (tmp_path / "none.toml", "cannot be read: No such file or directory"),
        (binary, "is not UTF-8 at byte 4"),
    ]:
        with pytest.raises(ConfigError) as raised:
            load(path)
        assert raised.value.errors == [f"{path}: {reason}"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("redis://user:pa/s@s@host/0", '"redis://***@host/0"'),
        ("https://host/v1?key=abc", '"https://host/v1?***"'),
        ("a\nb\u2028", '"a\\nb\\u2028"'),
        ("x" * 100, f'"{"x" * 75}..."'),
        ({}, "a table"),
    ],
)
def test_shown_value_is_one_short_line_without_secrets(value: object, text: str) -> None:
    """What a message repeats is short, on one line, and holds no part of a URL that is secret."""
    assert shown(value) == text


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_KEYS = st.sampled_from(
    [
        *("brand", "server", "redis", "sql", "providers", "models", "deployments", "prices"),
        *("name", "openai", "base_url", "headers", "provider", "wires", "aliases", "url", "port"),
        *("input", "caps"),
    ]
) | st.text(max_size=3)
_DOCUMENTS = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS | st.just("https://h/v1"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
        max_leaves=20,
    ),
    max_size=6,
)


@given(_DOCUMENTS)
def test_reading_any_document_gives_settings_and_single_lines(raw: dict[str, object]) -> None:
    """Any document is accepted or gives errors of one line each."""
    errors: list[str] = []

    settings = read_table(raw, Settings, errors)
    errors.extend(check_rules(settings, None))

    assert isinstance(settings, Settings)
    assert all(line.isprintable() for line in errors)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            'name = "deepseek"',
            'name = "deepseek"\nallow_features = ["web_serch"]',
            'providers[0].allow_features[0]: "web_serch" is not one of audio_output, ',
        ),
        (
            'name = "flash"',
            'name = "flash"\nprices = { tiers = { priority = 2.0 } }',
            'models[0].prices.tiers.priority: 2.0 is not a factor in quotes like "2.5", ',
        ),
        (
            'name = "flash"',
            'name = "flash"\nprices = { input = "100000" }',
            'models[0].prices.input: "100000" is not a decimal in quotes like "0.07", below 100000',
        ),
        (
            'name = "flash"',
            'name = "flash"\nprices = { long_context = { input = "3", output = "4" } }',
            "models[0].prices.long_context.above: missing; expected a whole number from 1 to ",
        ),
    ],
)
def test_parse_error_in_priced_features_names_the_key(old: str, new: str, error: str) -> None:
    """A feature that does not exist, a factor without quotes, a price out of bounds."""
    (line,) = errors_of(VALID.replace(old, new, 1))

    assert line.startswith(error)
