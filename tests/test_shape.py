"""The shape of the code: what a test can keep of how it reads. A failure lists every place."""

import ast
import functools
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "gateway").rglob("*.py"))
EVERYTHING = sorted(
    [*PACKAGE, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")],
)

PROSE = sorted(
    path
    for folder in ("gateway", "docs", "deploy", "bench", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".html", ".lua", ".js", ".po", ".toml", ".yaml", ".conf"}
    and not {"golden", "inputs", "vendor"} & set(path.parts)
) + sorted(ROOT.glob("*.md"))

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
    r"""\b(?:told|hears?|heard|hearing|mistakes?|somebody|whoever|callers?|till|wish(?:es|ed)?|shall
    |answer(?:s|ed|ing)?|thoughts?(?![ ]signatures?\b)|barren|politely
    |(?<!in[ -])fronts?(?![ ]matter\b)|the[ ]books|for[ ]who|so[ ]long|as[ ]it[ ]came)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What the project's prose says otherwise, see docs/contributing.md."""
FOREIGN = re.compile(r"[\w.-]*/[\w./-]+|\bcaller\(\)|\bif caller\b|^caller$")
"""Paths, and names that Jinja and Anthropic's API chose."""
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


@functools.cache
def comments_in(path: Path) -> tuple[tuple[int, str], ...]:
    """Line and text of every comment."""
    return tuple(
        (token.start[0], token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(source_of(path)).readline)
        if token.type == tokenize.COMMENT
    )


def strings_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string, docstrings included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def is_statement(comment: str) -> bool:
    """Whether a comment is a statement that was switched off, as far as a parser sees."""
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
    """Every module's docstring says what the module guarantees."""
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


def test_hosts_are_joined_to_ports_in_one_place() -> None:
    """An IPv6 address needs brackets, which `host_and_port` sets."""
    joined = re.compile(r"\bhost\}:\{|%s:%[sd]|\[\{[^{}]*\bhost\}\]|\bhost \+ \":\"")
    found = [
        place(path, number)
        for path in PACKAGE
        if path.name != "urls.py" or path.parent.name != "settings"
        for number, row in enumerate(source_of(path).split("\n"), 1)
        if joined.search(row)
    ]

    assert found == []


def docstrings_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, also those of attributes."""
    for node in ast.walk(tree_of(path)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def texts() -> Iterator[tuple[str, str]]:
    """Place and text of all prose; strings of tests are data, those of the gateway messages."""
    for path in EVERYTHING:
        if path == Path(__file__) or not PRIVATE_WORDS.search(source_of(path)):
            continue
        strings = strings_in(path) if path in PACKAGE else docstrings_in(path)
        for line, text in itertools.chain(comments_in(path), strings):
            yield place(path, line), text
    for path in PROSE:
        for number, row in enumerate(source_of(path).split("\n"), 1):
            if path.suffix != ".po" or not row.startswith("msgstr"):
                yield place(path, number), row


def test_prose_uses_the_words_of_the_field() -> None:
    """Docstrings, comments, messages, pages and documents have no private vocabulary."""
    found = [
        f"{where} {word}"
        for where, text in texts()
        if PRIVATE_WORDS.search(text)
        for word in PRIVATE_WORDS.findall(FOREIGN.sub("", text))
    ]

    assert found == []
