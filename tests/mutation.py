"""
Mutation testing, by hand: which small changes of a module does no test notice?

    make mutants TARGET=gateway/core/pricing.py
    python -m tests.mutation gateway/protocols/streams --tests tests/unit/protocols --sample 8

A mutant changes one operator, number, condition or call. It exists in the memory of one process
only, and no file is touched. Without `--tests`, the unit tests that name a module run.

The tests are collected and run once, to find out which of them execute a line. For a mutant inside
a function, a forked process replaces the function's code and runs the tests of that line, fastest
first. Other mutants (constants, defaults, tables) need a new import: they run the tests of the
module in a new process, which takes seconds. `--functions` leaves them out.
"""

from __future__ import annotations

import argparse
import ast
import functools
import gc
import os
import random
import resource
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU_S = 25
TIMEOUT_S = 600.0
OPTIONS = [
    "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=no", "--assert=plain",
    "--timeout=300",
]  # fmt: skip
# More than a comparison at its bound: `<` becomes `<=`, `==` becomes `!=`.
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of a module's syntax tree; `apply` makes it in place."""

    lines: range
    what: str
    apply: Callable[[], None]
    in_function: bool


def _negated(node: ast.If | ast.While | ast.IfExp) -> Callable[[], None]:
    return lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _assigned(node: ast.AST, field: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, field, value)


def _changes(node: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            other = COMPARISONS[type(op)]
            yield f"{type(op).__name__} -> {other.__name__}", _assigned(node, "ops", [other()])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in ARITHMETIC:
            changed = ARITHMETIC[type(op)]
            yield f"{type(op).__name__} -> {changed.__name__}", _assigned(node, "op", changed())
        case ast.BoolOp(op=op):
            joined = ast.And() if isinstance(op, ast.Or) else ast.Or()
            yield f"{type(op).__name__} -> {type(joined).__name__}", _assigned(node, "op", joined)
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", _assigned(node, "value", not value)
        case ast.Constant(value=int() as value):
            yield f"{value} -> {value + 1}", _assigned(node, "value", value + 1)
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare):
            yield "condition negated", _negated(node)
        case ast.Expr(value=ast.Call() | ast.Await()):
            removed = f"removed: {ast.unparse(node)[:60]}"
            yield removed, _assigned(node, "value", ast.Constant(None))


def _is_declaration(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a declaration that are not behaviour: options and annotations."""
    if isinstance(node, ast.ClassDef):
        yield from (each for keyword in node.keywords for each in ast.walk(keyword))
    annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
    if annotation is not None:
        yield from ast.walk(annotation)


def _bodies(tree: ast.Module) -> set[int]:
    """Return the ids of all nodes in bodies of functions."""
    return {
        id(below)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        for below in ast.walk(statement)
    }


def _lines_of(node: Any) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def mutants(tree: ast.Module) -> list[Mutant]:
    """Return all mutants of a module, in an order that depends on its syntax alone."""
    skipped = {id(below) for node in ast.walk(tree) for below in _is_declaration(node)}
    bodies = _bodies(tree)
    return [
        Mutant(_lines_of(node), what, apply, inside)
        for node in ast.walk(tree)
        if id(node) not in skipped
        for inside in [id(node) in bodies]
        for what, apply in _changes(node)
    ]


def _compiled(path: Path, number: int) -> types.CodeType:
    tree = ast.parse(path.read_text("utf-8"))
    mutants(tree)[number].apply()
    return compile(ast.fix_missing_locations(tree), str(path), "exec")


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, number: int) -> None:
        super().__init__(name, path)
        self._number = number

    def get_code(self, fullname: str) -> types.CodeType:
        return _compiled(Path(self.path), self._number)


class _Finder(MetaPathFinder):
    """Finds one module as a mutant and leaves all others to the usual finders."""

    def __init__(self, module: str, number: int) -> None:
        self._module = module
        self._number = number

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._number)
        return spec


def _module_of(path: Path) -> str:
    return ".".join(path.resolve().relative_to(ROOT).with_suffix("").parts)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield each
            yield from _codes(each)


class Functions:
    """All functions and caches of this process, so that a fork can replace and clear them."""

    def __init__(self) -> None:
        self._functions: dict[str, list[types.FunctionType]] = {}
        self._caches: list[Any] = []
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType):
                self._functions.setdefault(each.__code__.co_filename, []).append(each)
            elif isinstance(each, functools._lru_cache_wrapper):
                self._caches.append(each)
        # Forks then share the memory of all objects instead of copying it.
        gc.collect()
        gc.disable()
        gc.freeze()

    def replace(self, path: Path, number: int) -> bool:
        """Make the functions of a module those of a mutant; return whether one was replaced."""
        name = str(path.resolve())
        is_replaced = False
        changed = {
            (code.co_qualname, code.co_firstlineno): code
            for code in _codes(_compiled(path.resolve(), number))
        }
        for function in self._functions.get(name, ()):
            code = function.__code__
            other = changed.get((code.co_qualname, code.co_firstlineno))
            if other is None or other == code:
                continue
            if len(other.co_freevars) != len(code.co_freevars):
                return False
            function.__code__ = other
            is_replaced = True
        for cache in self._caches:
            cache.cache_clear()
        return is_replaced


def _killed(run: Callable[[], int]) -> bool:
    """Return whether `run` fails in a fork; one that does not end fails."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            os._exit(run())
        finally:
            os._exit(1)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def _run_items(session: pytest.Session, items: Sequence[pytest.Item]) -> int:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    session.config.pluginmanager.unregister(reporter)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def _run_imported(module: str, number: int, tests: list[str]) -> int:
    command = [sys.executable, "-m", "tests.mutation", module, "--number", str(number), "--tests"]
    os.execv(sys.executable, [*command, *tests])


class Mutation:
    """
    The pytest plugin that tries the mutants in place of running the tests.

    Args:
        targets: The modules.
        asked: The command's options.
    """

    def __init__(self, targets: list[Path], asked: argparse.Namespace) -> None:
        self._targets = targets
        self._asked = asked
        self._times: dict[str, float] = {}
        self.survivors = 0

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests once with coverage, then those of each mutant."""
        _use_short_examples()
        watched = coverage.Coverage(
            data_file=None, config_file=False, include=[str(path) for path in self._targets]
        )
        watched.start()
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            watched.switch_context(item.nodeid)
            started = time.perf_counter()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._times[item.nodeid] = time.perf_counter() - started
        watched.stop()
        if session.testsfailed:
            return True
        functions = Functions()
        for path in self._targets:
            self._try_module(session, path, watched.get_data(), functions)
        return True

    def _try_module(
        self, session: pytest.Session, path: Path, data: coverage.CoverageData, functions: Functions
    ) -> None:
        found = mutants(ast.parse(path.read_text("utf-8")))
        numbers = [
            number
            for number, mutant in enumerate(found)
            if mutant.in_function or not self._asked.functions
        ]
        if self._asked.sample is not None and self._asked.sample < len(numbers):
            numbers = sorted(random.Random(self._asked.seed).sample(numbers, self._asked.sample))
        items = {item.nodeid: item for item in session.items}
        contexts = data.contexts_by_lineno(str(path))
        shown = path.relative_to(ROOT)
        survivors = 0
        for number in numbers:
            mutant = found[number]
            lines = mutant.lines if mutant.in_function else contexts
            names = {name for line in lines for name in contexts.get(line, ()) if name in items}
            chosen = [items[name] for name in sorted(names, key=self._times.__getitem__)]
            if not self._is_killed(session, path, number, mutant, chosen, functions):
                survivors += 1
                suffix = "" if chosen else " (no test)"
                print(f"\n{shown}:{mutant.lines.start}: {mutant.what}{suffix}", flush=True)
        print(f"\n{shown}: {survivors} of {len(numbers)} mutants survive", flush=True)
        self.survivors += survivors

    def _is_killed(
        self,
        session: pytest.Session,
        path: Path,
        number: int,
        mutant: Mutant,
        items: list[pytest.Item],
        functions: Functions,
    ) -> bool:
        if not items:
            return False

        files = sorted({item.nodeid.partition("::")[0] for item in items})

        def run() -> int:
            if mutant.in_function and functions.replace(path, number):
                return _run_items(session, items)
            return _run_imported(str(path), number, files)

        return _killed(run)


def _use_short_examples() -> None:
    # Imported here, so that pytest can rewrite the assertions of hypothesis.
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutation", max_examples=15, deadline=None, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    settings.load_profile("mutation")


def tests_of(module: str) -> list[str]:
    """Return the unit tests that name the module."""
    package, _, name = module.rpartition(".")
    named = (module, f"from {package} import {name}")
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / "unit").rglob("test_*.py")
        if any(each in path.read_text("utf-8") for each in named)
    )


def main() -> int:
    """Print the survivors; the exit status is 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("target", type=Path, help="a module, or a folder of modules")
    parser.add_argument("--tests", nargs="*", help="test files or folders")
    parser.add_argument("--sample", type=int, help="how many mutants per module; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--functions", action="store_true", help="only mutants inside functions")
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    target = asked.target.resolve()
    targets = sorted(target.rglob("*.py")) if target.is_dir() else [target]
    if asked.number is not None:
        sys.meta_path.insert(0, _Finder(_module_of(target), asked.number))
        return int(pytest.main(["-x", *OPTIONS, *asked.tests]))
    tests = asked.tests or sorted({name for each in targets for name in tests_of(_module_of(each))})
    if not tests:
        print(f"{asked.target}: no unit test names it; give some by --tests")
        return 2
    mutation = Mutation(targets, asked)
    status = int(pytest.main([*OPTIONS, *tests], plugins=[mutation]))
    return 2 if status else int(mutation.survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
