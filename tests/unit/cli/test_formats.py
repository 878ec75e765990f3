"""Tables and records of the commands, on terminals and in pipes."""

import click
import pytest

from gateway.cli.formats import print_record, print_rows

ACCOUNT = {
    "id": "acct_01k7zq3v9xw5b2m8n4p6r0s1t2",
    "name": "acme",
    "balance": "12.50",
    "balance_nanousd": 12_500_000_000,
    "trusted": False,
    "created_at": "2026-11-28T08:00:00Z",
    "models": None,
}


@pytest.fixture(params=[40, 80, 200])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Commands print to a terminal of this width."""
    columns: int = request.param
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    return columns


def test_print_rows_never_wraps_or_cuts_values(
    terminal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the width, each value is whole and on one line, and amounts are shown once."""
    print_rows([ACCOUNT, {**ACCOUNT, "id": "acct_second"}], as_json=False)

    shown = click.unstyle(capsys.readouterr().out)
    for value in ("acct_01k7zq3v9xw5b2m8n4p6r0s1t2", "acct_second", "2026-11-28T08:00:00Z"):
        assert value in shown
    assert "nanousd" not in shown
    assert "12,500,000,000" not in shown
    is_table = any("balance" in line and "name" in line for line in shown.splitlines())
    assert is_table == (terminal == 200)
    assert all(len(line.rstrip()) <= max(terminal, 43) for line in shown.splitlines())


def test_print_rows_is_a_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal no width applies: one line is one row."""
    print_rows([ACCOUNT], as_json=False)

    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["id", "name", "balance", "trusted", "created", "at", "models"]
    assert lines[-1] == [
        "acct_01k7zq3v9xw5b2m8n4p6r0s1t2", "acme", "12.50", "no", "2026-11-28T08:00:00Z", "-",
    ]  # fmt: skip


def test_print_record_is_a_line_for_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    """Names are aligned; amounts in nano-dollars are left to JSON."""
    print_record(ACCOUNT, as_json=False)

    assert capsys.readouterr().out == (
        "id          acct_01k7zq3v9xw5b2m8n4p6r0s1t2\n"
        "name        acme\n"
        "balance     12.50\n"
        "trusted     no\n"
        "created at  2026-11-28T08:00:00Z\n"
        "models      -\n"
    )


def test_print_record_as_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get an array, as from a list, with both forms of an amount."""
    print_record(ACCOUNT, as_json=True)

    shown = capsys.readouterr().out
    assert shown.startswith("[")
    assert '"balance_nanousd": 12500000000' in shown
