"""The list of the modules that the compiled build compiles, and the hook that reads it."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
    "tool"
]["capio"]["compiled"]
COMPILED = {
    f"{package}.{module}": ROOT / package.replace(".", "/") / f"{module}.py"
    for package, modules in PACKAGES.items()
    for module in modules
}
RESERVED_IN_C = {
    "_alignof", "_asm", "_attribute", "_complex", "_const", "_imag", "_inline", "_linux", "_real",
    "_restrict", "_signed", "_thread", "_typeof", "_unix", "_volatile",
}  # fmt: skip
"""mypyc puts `_` before an attribute's name, which makes these keywords or macros of GCC."""


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classes(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each class of a module with its bases, as far as they are names."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
            yield node.name, [ast.unparse(base).rpartition(".")[2] for base in bases]


def test_every_module_exists_and_is_listed_once_in_order() -> None:
    """A renamed module is renamed in the list, too."""
    assert [name for name, source in COMPILED.items() if not source.is_file()] == []
    assert list(PACKAGES) == sorted(PACKAGES)
    for modules in PACKAGES.values():
        assert modules == sorted(set(modules))


@pytest.mark.parametrize("source", COMPILED.values(), ids=COMPILED)
def test_compiled_module_has_no_struct(source: Path) -> None:
    """A struct's annotations are read when its class is made; compiled code has none."""
    assert [name for name, bases in classes(source) if "Struct" in bases] == []


@pytest.mark.parametrize("source", COMPILED.values(), ids=COMPILED)
def test_compiled_module_has_no_attribute_that_is_reserved_in_c(source: Path) -> None:
    """Found here in a second, and not by the C compiler in minutes."""
    found = Counter(
        node.attr
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )
    assert found.keys() & RESERVED_IN_C == set()


def suspended_while_handling(tree: ast.AST) -> list[int]:
    """Return the lines that wait in `except` or `finally`, and those of `async with`."""
    waits = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)
    lines: set[int] = set()
    for node in ast.walk(tree):
        handling: list[ast.stmt] = []
        if isinstance(node, ast.AsyncWith):
            lines.add(node.lineno)
        elif isinstance(node, ast.Try):
            handling = [*node.finalbody, *(each for one in node.handlers for each in one.body)]
        for statement in handling:
            lines |= {each.lineno for each in ast.walk(statement) if isinstance(each, waits)}
    return sorted(lines)


@pytest.mark.parametrize("source", COMPILED.values(), ids=COMPILED)
def test_compiled_coroutine_does_not_wait_while_it_handles_an_exception(source: Path) -> None:
    """As mypyc compiles it, whatever the thread runs next may raise that exception again."""
    assert suspended_while_handling(ast.parse(source.read_text("utf-8"))) == []


def test_waiting_while_an_exception_is_handled_is_found() -> None:
    """In each of the statements that handle one, and not in what they guard."""
    source = """
async def wait():
    try:
        await first()
    except OSError:
        await second()
    finally:
        await third()
    async with lock:
        pass
"""
    assert suspended_while_handling(ast.parse(source)) == [6, 8, 9]


def test_interpreted_modules_derive_no_class_from_a_compiled_one() -> None:
    """Such a class could not be instantiated, in the compiled build only."""
    made = {name for source in COMPILED.values() for name, _ in classes(source)}
    wrong: list[str] = []
    for source in (ROOT / "gateway").rglob("*.py"):
        if source in COMPILED.values():
            continue
        tree = ast.parse(source.read_text("utf-8"))
        compiled = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in COMPILED
            for alias in node.names
        } & made
        wrong += [f"{source}: {name}" for name, bases in classes(source) if compiled & {*bases}]

    assert wrong == []


def test_hook_compiles_what_is_listed() -> None:
    """The paths that mypyc gets are those of the list."""
    assert [ROOT / path for path in hook().sources(ROOT)] == list(COMPILED.values())


def test_wheel_has_the_pages_that_the_console_shows_and_no_scripts() -> None:
    """The console reads them there if there is no checkout."""
    packaged = {Path(path) for path in hook().pages(ROOT).values()}
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    shown = {"README.md", *re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\)", index, re.MULTILINE)}

    assert packaged >= {Path("gateway/console/docs/repository", name) for name in shown}
    assert {path.suffix for path in packaged} == {".md"}


@pytest.mark.parametrize(("variable", "version"), [(None, "standard"), ("1", "editable")])
def test_build_without_the_variable_and_editable_build_stay_pure(
    variable: str | None, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither needs a compiler."""
    monkeypatch.delenv("CAPIO_COMPILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("CAPIO_COMPILE", variable)
    built = hook()
    monkeypatch.setattr(built, "build", lambda root, into: pytest.fail("compiled"))
    data: dict[str, object] = {"pure_python": True, "force_include": {}}
    compiling = built.CompiledModules(str(ROOT), {}, None, None, "", "wheel")

    compiling.initialize(version, data)

    assert data == {
        "pure_python": True,
        "force_include": {} if version == "editable" else built.pages(ROOT),
    }


def test_compiled_wheel_has_libraries_and_the_tag_of_its_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is installed on no other Python than it was built for."""
    monkeypatch.setenv("CAPIO_COMPILE", "1")
    built = hook()
    monkeypatch.setattr(built, "build", lambda root, into: {"gateway/a.so": into / "a.so"})
    data: dict[str, object] = {"pure_python": True, "force_include": {"docs": "docs"}}

    built.CompiledModules(str(ROOT), {}, None, None, "", "wheel").initialize("standard", data)

    library = str(ROOT / "build" / "mypyc" / "a.so")
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    assert data["force_include"] == {
        "docs": "docs",
        library: "gateway/a.so",
        **built.pages(ROOT),
    }
