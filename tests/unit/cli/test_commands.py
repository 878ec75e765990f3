"""The command line, run in this process."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.build_kind import build_kind
from gateway.cli import main
from gateway.cli.config import SHORTEST
from gateway.cli.main import _COMMANDS
from gateway.core.model import CallRecord, Usage
from gateway.core.money import dollars
from gateway.settings import Settings, load, parse
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS

Capio = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose stores live in the test's own directory."""
    path = tmp_path / "test.toml"
    path.write_text(f'{SHORTEST}\n[server]\ndata_dir = "{tmp_path}/data"\n', "utf-8")
    return path


@pytest.fixture
def capio(config: Path) -> Capio:
    """Run a command with that configuration; environment variables as keywords."""

    def run(*arguments: str, **environ: str | None) -> Result:
        return CliRunner().invoke(main, [*arguments, "--config", str(config)], env=environ)

    return run


def test_help_loads_no_store_and_no_server() -> None:
    """`capio --help` is fast: it imports no heavy package."""
    script = (
        "import sys; from click.testing import CliRunner; from gateway.cli import main;"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0;"
        "print(*sorted({'sqlalchemy', 'granian', 'redis', 'rich', 'prometheus_client'}"
        " & set(sys.modules)))"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == ""


def test_serve_loads_no_pages_and_no_migrations() -> None:
    """Workers are forks of this process: what it imports costs each start and each worker."""
    code = "import sys, gateway.cli.process.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    assert "gateway.server.supervisor" in loaded
    assert not loaded & {"gateway.console.application", "gateway.demo.server", "alembic", "jinja2"}


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_listed_command_explains_itself(name: str) -> None:
    """`--help` of each listed command prints its usage."""
    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")
    assert name in CliRunner().invoke(main, ["--help"]).output


def test_unknown_command_is_a_usage_error() -> None:
    """A wrong command ends with exit code 2."""
    assert CliRunner().invoke(main, ["frobnicate"]).exit_code == 2


def test_version_is_the_packages() -> None:
    """`capio --version` prints name, version, and whether the build is compiled."""
    output = CliRunner().invoke(main, ["--version"]).output

    assert output == f"capio, version {__version__} ({build_kind()})\n"


def test_serve_without_configuration_shows_the_shortest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message contains a minimal configuration, which is valid."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(main, ["serve"])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert SHORTEST in result.stderr
    assert parse(SHORTEST).models[0].name == "deepseek-v4-flash"


def test_serve_finds_the_file_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`capio.toml` is the default; its errors are reported before anything starts."""
    monkeypatch.chdir(tmp_path)
    Path("capio.toml").write_text(f"{SHORTEST}[server]\nprot = 1\nworkers = 0\n", "utf-8")

    result = CliRunner().invoke(main, ["serve"])

    assert result.exit_code == 2
    assert result.stderr.startswith("capio.toml: 2 errors\n  server.prot: unknown key")
    assert "did you mean port?" in result.stderr


def test_variable_names_the_file_unless_the_option_does(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image, where every command finds the mounted file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "k")
    monkeypatch.setenv("CAPIO_CONFIG", str(config))
    other = tmp_path / "other.toml"
    other.write_text("prot = 1\n", "utf-8")

    by_variable = CliRunner().invoke(main, ["check-config"])
    by_option = CliRunner().invoke(main, ["check-config", "--config", str(other)])

    assert by_variable.exit_code == 0
    assert f"{config}: no errors." in by_variable.stdout
    assert by_option.stderr.startswith(f"{other}: ")


def test_module_calls_itself_by_the_name_of_the_command() -> None:
    """The image's `capio` runs the module."""
    command = [sys.executable, "-m", "gateway.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("Usage: capio [OPTIONS]")


def test_serve_without_credential_names_the_variable(capio: Capio) -> None:
    """A missing secret is a configuration error."""
    result = capio("serve", DEEPSEEK_API_KEY=None)

    assert result.exit_code == 2
    assert result.stderr.endswith(
        ": 1 error\n  providers[0].api_key_env: "
        "the environment variable DEEPSEEK_API_KEY is not set\n"
    )


def test_check_config_reports_what_it_says(capio: Capio) -> None:
    """A valid configuration is summarized, and models without prices are listed."""
    result = capio("check-config", DEEPSEEK_API_KEY="k")

    assert result.exit_code == 0
    assert "https://api.deepseek.com/v1" in result.stdout
    assert "environment DEEPSEEK_API_KEY" in result.stdout
    assert result.stdout.endswith("test.toml: no errors.\n")
    assert result.stderr == "Free of charge, as no prices are set: deepseek-v4-flash\n"


def test_check_config_shows_ipv6_hosts_in_brackets(capio: Capio, config: Path) -> None:
    """As URLs that can be opened, on each port."""
    result = capio(
        "check-config",
        DEEPSEEK_API_KEY="k",
        CAPIO_SERVER__HOST="::1",
        CAPIO_SERVER__DIRECT_PORT="8081",
        CAPIO_METRICS__HOST="2001:db8::1",
    )

    assert "http://[::1]:8080 and http://[::1]:8081 with 2 workers" in result.stdout
    assert "http://[2001:db8::1]:9464/metrics" in result.stdout


def test_check_config_without_a_catalogue_says_where_it_is(capio: Capio, config: Path) -> None:
    """And how to add the first entries."""
    config.write_text("[catalogue]\nsql_only = true\n", "utf-8")

    result = capio("check-config")

    assert result.exit_code == 0
    assert "all in SQL" in result.stdout
    assert "/admin/models" in result.stdout


def test_check_config_judges_capabilities(capio: Capio, config: Path) -> None:
    """Overrides of a dialect's capabilities are validated."""
    text = config.read_text("utf-8")
    config.write_text(
        text.replace('"deepseek"\n', '"deepseek"\ncaps = { imges = true }\n'), "utf-8"
    )

    result = capio("check-config", DEEPSEEK_API_KEY="k")

    assert result.exit_code == 2
    assert "providers[0].caps.imges: true: unknown capability 'imges'" in result.stderr


def test_accounts_made_are_listed(capio: Capio) -> None:
    """A new account is listed, in JSON and in the table."""
    made = json.loads(capio("accounts", "create", "acme", "--json").stdout)
    listed = json.loads(capio("accounts", "list", "--json").stdout)
    table = capio("accounts", "list").stdout

    assert made[0]["name"] == "acme"
    assert listed == made
    assert made[0]["id"] in table


def test_accounts_list_without_accounts_reports_it(capio: Capio) -> None:
    """An empty list prints a hint; with `--json`, an empty array."""
    result = capio("accounts", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No accounts found. Create one: capio accounts create NAME\n"
    assert json.loads(capio("accounts", "list", "--json").stdout) == []


def test_accounts_with_unusable_data_directory_fails(capio: Capio, config: Path) -> None:
    """A store that cannot be opened is a failure, exit code 1, without a traceback."""
    (config.parent / "data").write_bytes(b"a file")

    result = capio("accounts", "list")

    assert result.exit_code == 1
    assert "data" in result.stderr
    assert "Traceback" not in result.output


def test_migrate_twice_has_nothing_left_to_do(capio: Capio) -> None:
    """The second run has no effect."""
    first, second = capio("migrate"), capio("migrate")

    assert first.stdout.startswith("Applied migration ")
    assert second.stdout == "The schema is up to date.\n"


def test_models_list_shows_prices_and_deployments(capio: Capio, config: Path) -> None:
    """Prices are those of clients, in dollars per million tokens."""
    priced = SHORTEST + 'prices = { input = "0.07", output = "0.14", cache_read = "0.0028" }\n'
    config.write_text(priced, "utf-8")

    (row,) = json.loads(capio("models", "list", "--json").stdout)

    assert row["name"] == "deepseek-v4-flash"
    assert (row["input"], row["output"], row["cache_read"]) == ("0.07", "0.14", "0.0028")
    assert row["deployments"] == ["deepseek/deepseek-v4-flash (openai)"]


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (300_000_000, "0.30"),
        (1_250_000_000, "1.25"),
        (15_000_000_000, "15.00"),
        (999_999_999_999_999, "999999.999999999"),
    ],
)
def test_dollars_are_exact_with_cents(nanousd: int, text: str) -> None:
    """Amounts are not rounded."""
    assert dollars(nanousd) == text


def test_usage_sums_up_the_calls_of_the_ledger(capio: Capio, config: Path) -> None:
    """Calls and tokens by model, within the given period."""
    capio("migrate")
    asyncio.run(_record(load(config)))

    def models(*arguments: str) -> list[dict[str, object]]:
        result = capio("usage", "--by", "model", "--json", *arguments)
        assert result.exit_code == 0, result.stderr
        found: list[dict[str, object]] = json.loads(result.stdout)
        return found

    assert models() == [
        {"model": "a", "calls": 2, "failed": 1, "input": 14, "cache_read": 0, "cache_write": 0,
         "output": 4, "reasoning": 0, "cost": "0.00", "cost_nanousd": 0},
        {"model": "b", "calls": 1, "failed": 0, "input": 7, "cache_read": 0, "cache_write": 0,
         "output": 2, "reasoning": 0, "cost": "0.00", "cost_nanousd": 0},
    ]  # fmt: skip
    assert [row["calls"] for row in models("--since", "2026-01-02")] == [1, 1]
    assert models("--until", "2026-01-01") == []
    assert models("--key", "key_other") == []
    assert "Account 'nobody' does not exist." in capio("usage", "--account", "nobody").stderr


def test_usage_since_no_time_is_a_usage_error(capio: Capio) -> None:
    """The message has examples of times."""
    result = capio("usage", "--since", "soon")

    assert result.exit_code == 2
    assert "'soon' is not a span like 30d or 12h, nor a date like 2027-01-31" in result.stderr


async def _record(settings: Settings) -> None:
    """Three calls: two on the first day of 2026, one on the second and later."""
    day = 86_400_000
    start = 1_767_225_600_000
    events = [
        CallRecord(
            request_id=f"r{i}",
            at_ms=start + at,
            key_id="key_1",
            account_id="acct_1",
            model=model,
            endpoint="messages",
            client_wire="anthropic",
            outcome=outcome,
            usage=Usage(input=7, output=2),
        )
        for i, (at, model, outcome) in enumerate(
            [(0, "a", "failed"), (day, "a", "completed"), (day, "b", "completed")]
        )
    ]
    database = Database(settings)
    try:
        async with database.write() as connection:
            rows = [row_of(msgspec.json.encode(event)) for event in events]
            await connection.execute(sa.insert(USAGE_EVENTS), rows)
    finally:
        await database.aclose()
