"""The shape of the code: what a test can keep of how it reads. A failure lists every place."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "gateway").rglob("*.py"))
EVERYTHING = sorted(
    [*PACKAGE, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")],
)

LONGEST_FILE = 500
LONGEST_MODULE = 400
"""Of the package itself; tests may be longer."""
MOST_MODULES = 12
LARGEST_PACKAGE = 2000
"""Lines of all modules of one package, without its sub-packages."""
LONGEST_FUNCTION = 60
SHORTEST_DOCSTRING = 20
LINE_READERS = ("splitlines", "aiter_lines")
"""They end lines at U+2028 and others, which may stand inside of a JSON string of an event."""
PRINTING = ("gateway/cli/", "gateway/demo/__main__.py", "gateway/server/demonstration.py")
PROMISE = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")
PRIVATE_WORDS = re.compile(
    r"\b(?:told|hears?|heard|thoughts|mistakes?|somebody|whoever|callers|till|wish|shall)\b"
    r"|\bthe books\b",
    re.IGNORECASE,
)
"""What the project's prose says otherwise, see docs/contributing.md."""
STATEMENT = re.compile(r"[\w.\[\]]+ [-+*/|&]?= \S|[\w.]+\(.*\)\Z|(?:return|import|from|raise) \S")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def source_of(path: Path) -> str:
    """The text of a file."""
    return path.read_text("utf-8")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(source_of(path))


def place(path: Path, line: int) -> str:
    """A place as people write it."""
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def calls_in(path: Path) -> Iterator[tuple[str, int]]:
    """Name and line of every call: `split` for both `split(...)` and `text.split(...)`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                yield function.attr, node.lineno
            elif isinstance(function, ast.Name):
                yield function.id, node.lineno


def comments_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source_of(path)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def prose_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and string."""
    for token in tokenize.generate_tokens(io.StringIO(source_of(path)).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def is_statement(comment: str) -> bool:
    """Whether a comment is a statement that was switched off, as far as can be told."""
    if not STATEMENT.match(comment):
        return False
    try:
        ast.parse(comment)
    except SyntaxError:
        return False
    return True


def test_files_are_short_enough_to_read() -> None:
    """A file holds one noun: at most 500 lines."""
    too_long = {
        place(path, lines): lines
        for path in EVERYTHING
        if (lines := source_of(path).count("\n")) > LONGEST_FILE
    }

    assert too_long == {}


def test_functions_are_short_enough_to_read() -> None:
    """A function does one thing: at most 60 lines, its docstring included."""
    too_long = {
        f"{place(path, node.lineno)} {node.name}": node.end_lineno - node.lineno + 1
        for path in PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    }

    assert too_long == {}


def test_modules_say_what_they_are_for() -> None:
    """Whoever opens a file of the gateway is told what it guarantees."""
    silent = [
        place(path, 1)
        for path in PACKAGE
        if len(ast.get_docstring(tree_of(path)) or "") < SHORTEST_DOCSTRING
    ]

    assert silent == []


def test_lines_of_events_are_split_at_their_own_ends_only() -> None:
    """An event's line ends at CR, LF or CRLF, and nowhere that Unicode knows besides."""
    found = [
        place(path, line)
        for path in PACKAGE
        for name, line in calls_in(path)
        if name in LINE_READERS
    ]

    assert found == []


def test_nothing_prints_but_commands() -> None:
    """What a server has to say goes to its log."""
    found = [
        place(path, line)
        for path in PACKAGE
        for name, line in calls_in(path)
        if name == "print" and not place(path, line).startswith(PRINTING)
    ]

    assert found == []


def test_what_is_left_undone_has_an_issue() -> None:
    """A promise in a comment has the number under which it can be found."""
    found = [
        f"{place(path, line)} {text}"
        for path in EVERYTHING
        for line, text in comments_in(path)
        if PROMISE.search(text)
    ]

    assert found == []


def test_no_code_hides_in_comments() -> None:
    """What was removed is in the history, not behind a hash."""
    found = [
        f"{place(path, line)} {text}"
        for path in EVERYTHING
        for line, text in comments_in(path)
        if is_statement(text)
    ]

    assert found == []


def test_pure_layers_read_no_clock() -> None:
    """`datetime` is for calendars there; the time comes in as an argument."""
    found = [
        place(path, line)
        for path in PACKAGE
        for name, line in calls_in(path)
        if name in {"now", "today", "utcnow"}
        and path.relative_to(ROOT).parts[1] in {"core", "protocols"}
    ]

    assert found == []


def test_modules_are_short_enough_to_read() -> None:
    """A module of the gateway has at most 400 lines."""
    too_long = {
        place(path, lines): lines
        for path in PACKAGE
        if (lines := source_of(path).count("\n")) > LONGEST_MODULE
    }

    assert too_long == {}


def test_packages_are_small_enough_to_know() -> None:
    """A package has at most 12 modules beside its `__init__`, and 2,000 lines."""
    modules: dict[str, int] = {}
    lines: dict[str, int] = {}
    for path in PACKAGE:
        package = path.parent.relative_to(ROOT).as_posix()
        modules[package] = modules.get(package, 0) + (path.name != "__init__.py")
        lines[package] = lines.get(package, 0) + source_of(path).count("\n")

    assert {name: count for name, count in modules.items() if count > MOST_MODULES} == {}
    assert {name: count for name, count in lines.items() if count > LARGEST_PACKAGE} == {}


def test_prose_uses_the_words_of_the_field() -> None:
    """Docstrings, comments and messages have no private vocabulary."""
    found = [
        f"{place(path, line)} {word}"
        for path in PACKAGE
        for line, text in prose_in(path)
        for word in PRIVATE_WORDS.findall(text)
    ]

    assert found == []
