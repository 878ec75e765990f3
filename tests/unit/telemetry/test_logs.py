"""Log lines as JSON and as text."""

import io
import json
import logging
import re
import socket
import sys
from pathlib import Path

import pytest

from gateway.core.model import CallRecord, Usage
from gateway.settings.service import LogFormat
from gateway.telemetry.logs import (
    LINE_FIELDS,
    CallLine,
    CallLog,
    JsonFormatter,
    TextFormatter,
    formatter,
    pod_name,
)

ROOT = Path(__file__).resolve().parents[3]


def record(event: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": event, "levelno": level, "created": 0.0, **extra})
    made.levelname = logging.getLevelName(level)
    return made


@pytest.mark.parametrize(
    ("log_format", "is_terminal", "expected"),
    [
        ("auto", True, TextFormatter),
        ("auto", False, JsonFormatter),
        ("json", True, JsonFormatter),
        ("text", False, TextFormatter),
    ],
)
def test_formatter_follows_setting_and_terminal(
    log_format: LogFormat,
    is_terminal: bool,
    expected: type[logging.Formatter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Terminals get text and pipes JSON, unless the setting decides."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)

    assert type(formatter(log_format)) is expected


def test_text_formatter_writes_one_readable_line() -> None:
    """Time, level, the event in words, and the other fields."""
    line = TextFormatter().format(
        record("gateway_started", url="http://127.0.0.1:8080", workers=2, reason="it is time")
    )

    clock, level, rest = line.split("  ", 1)[0], line.split()[1], line.split(maxsplit=2)[2]
    assert len(clock) == len("00:00:00")
    assert level == "info"
    assert rest == "gateway started url=http://127.0.0.1:8080 workers=2 reason='it is time'"


def test_text_formatter_escapes_control_characters() -> None:
    """Texts of clients and upstreams cannot control the terminal or forge a line."""
    line = TextFormatter().format(
        record("call_failed\x1b[2J", detail="a\x1b]0;title\x07\nb\x9b1m", names=["\x1b[1m"])
    )

    assert line.isprintable()
    assert "\\x1b[2J" in line
    assert "\\nb" in line


def test_text_formatter_adds_the_traceback() -> None:
    """An exception is shown below the line."""
    try:
        raise ValueError("broken")
    except ValueError:
        made = record("worker_failed", logging.ERROR, exc_info=sys.exc_info())

    first, *rest = TextFormatter().format(made).splitlines()
    assert first.endswith("error    worker failed")
    assert rest[-1] == "ValueError: broken"


def written(log_format: LogFormat) -> str:
    stream = io.BytesIO()
    log = CallLog(log_format, stream, pod="pod-1")
    record = CallRecord(
        request_id="req_1", at_ms=1, key_id="", account_id="", model="m", endpoint="messages",
        client_wire="anthropic", status=200, duration_ms=12, usage=Usage(input=3),
        address="192.0.2.1", user_agent="test/1 x",
    )  # fmt: skip
    log.write(CallLine(at=0.0, level="info", record=record, error_detail="two\nlines"))
    log.close()
    return stream.getvalue().decode()


def test_call_log_writes_text() -> None:
    """A call is one line of its fields that are set."""
    (line,) = written("text").splitlines()

    assert line.split(maxsplit=2)[1:] == [
        "info",
        "call request_id=req_1 model=m endpoint=messages client_wire=anthropic status=200"
        " outcome=completed cost_nanousd=0 duration_ms=12 attempts=1 address=192.0.2.1"
        " user_agent='test/1 x' input_tokens=3 error_detail='two\\nlines' pod=pod-1",
    ]


def test_call_log_writes_json() -> None:
    """A call is one JSON object."""
    assert json.loads(written("json"))["error_detail"] == "two\nlines"


def test_name_of_the_pod_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CAPIO_POD` names the pod, or else the host does."""
    monkeypatch.setenv("CAPIO_POD", " pod-1\x1b[2J" + "a" * 500)
    assert pod_name() == ("pod-1[2J" + "a" * 500)[:253]

    monkeypatch.setenv("CAPIO_POD", " ")
    assert pod_name() == socket.gethostname()


def test_fields_of_a_call_are_documented() -> None:
    """The table of docs/operations.md has exactly the fields that a line may have."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = text.partition("### Fields of a call\n")[2].partition("\n#")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]

    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(LINE_FIELDS)
