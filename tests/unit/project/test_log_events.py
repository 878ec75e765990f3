"""Log events are named `noun_verbed`: filters read like sentences, and greps find one place."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})

FORM = re.compile(r"[a-z]+(?:_[a-z]+)+")
IRREGULAR = frozenset({"found", "left", "lost", "reread", "resent"})
"""Past participles that do not end in `ed`."""


def logging_calls(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls of a module's logger."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in {"log", "logger", "_logger", "logging"}
            and node.func.attr in METHODS
        ):
            yield node


def events_of(call: ast.Call, tree: ast.Module) -> Iterator[str]:
    """The names an event may have: a literal, one of two, or a variable that is one of those."""
    assert isinstance(call.func, ast.Attribute)
    pending = [call.args[1 if call.func.attr == "log" else 0]]
    while pending:
        value = pending.pop()
        if isinstance(value, ast.IfExp):
            pending += value.body, value.orelse
        elif isinstance(value, ast.Name):
            pending += [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Assign)
                and ast.dump(node.targets[0], False) == _stored(value)
            ]
        else:
            assert isinstance(value, ast.Constant), ast.unparse(call)
            yield str(value.value)


def _stored(name: ast.Name) -> str:
    return ast.dump(ast.Name(name.id, ast.Store()), False)


def is_well_formed(event: str) -> bool:
    """Return whether a name is snake case of two words or more, the last a past participle."""
    last = event.rpartition("_")[2]
    return bool(FORM.fullmatch(event)) and (last.endswith("ed") or last in IRREGULAR)


def test_events_are_nouns_with_a_past_participle() -> None:
    """Whatever is written besides `call`, the line of one call, is something that happened."""
    found = {}
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        for call in logging_calls(tree):
            events = list(events_of(call, tree))
            assert events, f"{path.relative_to(ROOT)}:{call.lineno}"
            found.update(dict.fromkeys(events, f"{path.relative_to(ROOT)}:{call.lineno}"))

    assert len(found) > 80
    assert {event: place for event, place in found.items() if not is_well_formed(event)} == {}


def test_all_but_the_event_is_in_fields() -> None:
    """No event has arguments for `%`, which would make each line another event."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in MODULES
        for call in logging_calls(ast.parse(path.read_text("utf-8")))
        if len(call.args) > (2 if ast.unparse(call.func).endswith(".log") else 1)
    ]

    assert found == []


def test_loggers_are_named_after_their_module() -> None:
    """`logger = logging.getLogger(__name__)`, everywhere under that name."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in MODULES
        for line in path.read_text("utf-8").splitlines()
        if "getLogger(" in line
        and not line.startswith("logger = logging.getLogger(__name__)")
        and path.name != "logs.py"
    ]

    assert found == []


@pytest.mark.parametrize(
    "event", ["draining", "restarted", "start_without_sql", "Redis lost", "x_is"]
)
def test_other_names_are_refused(event: str) -> None:
    """A state, a single word or a sentence is not a name of an event."""
    assert not is_well_formed(event)
