"""The benchmark's results as a table in a document."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bench.report import BEGIN, END, table, write_into
from bench.run import Row

ROWS = [
    asdict(Row("short", "direct", 9, 0, 1.0, 0.0, 0.0, 0.1, 0.2, 0.0)),
    asdict(Row("short", "nginx", 9, 0, 1.0, 40.0, 0.0, 0.1, 0.2, 9.8)),
    asdict(Row("short", "gateway", 9, 1, 1.25, 120.0, 30.0, 0.5, 2.25, 88.4)),
    asdict(Row("translated-burst", "gateway", 9, 0, 1.0, 15.0, 3.0, 0.5, 2.25, 88.4)),
]


def test_gateway_is_compared_with_nginx_of_the_same_run() -> None:
    """The ratio needs no thinking; what has no counterpart or no process has a dash."""
    lines = table(ROWS).split("\n")

    assert lines[2] == "| short | direct | 9 | 0 | 1.0 | - | - | - | 0.10 | 0.20 | - |"
    assert lines[4] == "| short | gateway | 9 | 1 | 1.2 | 120.0 | 3.00 | 30.0 | 0.50 | 2.25 | 88 |"
    assert lines[5].startswith("| translated-burst | gateway | 9 | 0 | 1.0 | 15.0 | - |")


def test_results_replace_the_old_ones_and_nothing_else(tmp_path: Path) -> None:
    """Only the text between the markers changes, however often it is replaced."""
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_into(document, ROWS, {"cpu": "one", "cores": "2"})
    write_into(document, ROWS[:1], {"cpu": "one", "cores": "2"})

    text = document.read_text()
    assert text == f"before\n{BEGIN}\n\ncpu one, cores 2\n\n{table(ROWS[:1])}\n\n{END}\nafter\n"


def test_document_without_a_place_for_results_is_left_alone(tmp_path: Path) -> None:
    """A document without the markers is not changed."""
    document = tmp_path / "README.md"
    document.write_text("nothing here")

    with pytest.raises(ValueError, match="no place for results"):
        write_into(document, ROWS, {})

    assert document.read_text() == "nothing here"
