"""Writes the results of a run into a document, between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

BEGIN = "<!-- results: written by `python -m bench.run --markdown` -->"
END = "<!-- end of results -->"
COLUMNS = (
    "scenario",
    "target",
    "requests",
    "failed",
    "seconds",
    "CPU us/unit",
    "x nginx",
    "helpers us/unit",
    "TTFT p50 ms",
    "TTFT p99 ms",
    "memory MB",
)
_RIGHT_FROM = 2
"""The columns from here on are numbers."""


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """
    Return the rows as a Markdown table.

    Args:
        rows: The members of `run.Row`. What was not measured, as the CPU of no proxy, is a dash.
    """
    nginx = {row["scenario"]: row["cpu_us_per_unit"] for row in rows if row["target"] == "nginx"}
    rule = ["---"] * _RIGHT_FROM + ["---:"] * (len(COLUMNS) - _RIGHT_FROM)
    lines = [list(COLUMNS), rule]
    for row in rows:
        measured = row["target"] != "direct"
        cpu, baseline = row["cpu_us_per_unit"], nginx.get(row["scenario"])
        assert isinstance(cpu, float)
        ratio = f"{cpu / baseline:.2f}" if measured and isinstance(baseline, float) else "-"
        lines.append(
            [
                *(f"{row[name]}" for name in ("scenario", "target", "requests", "failures")),
                f"{row['seconds']:.1f}",
                f"{cpu:.1f}" if measured else "-",
                ratio,
                f"{row['helpers_us_per_unit']:.1f}" if row["target"] == "gateway" else "-",
                f"{row['ttft_p50_ms']:.2f}",
                f"{row['ttft_p99_ms']:.2f}",
                f"{row['rss_mb']:.0f}" if measured else "-",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_into(
    document: Path, rows: Sequence[Mapping[str, object]], machine: Mapping[str, str]
) -> None:
    """
    Put the table and the machine between the document's marks; the rest of it stays.

    Raises:
        ValueError: The document has no marks.
    """
    text = document.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document} has no place for results: {BEGIN} ... {END}")
    shown = ", ".join(f"{name} {value}" for name, value in machine.items())
    document.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{table(rows)}\n\n{END}{after}", "utf-8")
