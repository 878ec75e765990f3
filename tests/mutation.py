"""
Mutation testing, by hand: which small changes of a module does no test notice?

    make mutants TARGET=gateway/core/pricing.py
    python -m tests.mutation gateway/core/pricing.py --tests tests/unit/core --sample 40

A mutant changes one operator, number, condition or call. The changed module exists in the memory of
one test process only, and no file is touched. A mutant survives if the tests pass. Without
`--tests`, the unit tests that name the module run.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 120.0
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

    line: int
    what: str
    apply: Callable[[], None]


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


def mutants(tree: ast.Module) -> list[Mutant]:
    """Return all mutants of a module, in an order that depends on its syntax alone."""
    skipped = {id(below) for node in ast.walk(tree) for below in _is_declaration(node)}
    return [
        Mutant(getattr(node, "lineno", 0), what, apply)
        for node in ast.walk(tree)
        if id(node) not in skipped
        for what, apply in _changes(node)
    ]


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, number: int) -> None:
        super().__init__(name, path)
        self._number = number

    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(Path(self.path).read_text("utf-8"))
        mutants(tree)[self._number].apply()
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


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


def _run(module: str, number: int | None, tests: list[str]) -> int:
    if number is not None:
        sys.meta_path.insert(0, _Finder(module, number))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header"]
    return int(pytest.main([*options, *tests]))


def passes(module: str, number: int | None, tests: list[str]) -> bool:
    """Return whether the tests pass with this mutant; one that hangs does not pass."""
    pid = os.fork()
    if pid == 0:
        os._exit(_run(module, number, tests))
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


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
    parser.add_argument("target", type=Path)
    parser.add_argument("--tests", nargs="*")
    parser.add_argument("--sample", type=int, help="how many mutants to try; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    module = ".".join(asked.target.with_suffix("").parts)
    found = mutants(ast.parse(asked.target.read_text("utf-8")))
    tests = asked.tests or tests_of(module)
    if not tests or not passes(module, None, tests):
        print(f"{asked.target}: its tests must exist and pass: {tests}")
        return 2
    numbers = list(range(len(found)))
    if asked.sample is not None and asked.sample < len(numbers):
        numbers = sorted(random.Random(asked.seed).sample(numbers, asked.sample))
    survivors = [found[number] for number in numbers if passes(module, number, tests)]
    for line, what, _ in sorted(survivors, key=lambda mutant: mutant.line):
        print(f"{asked.target}:{line}: {what}")
    print(f"{asked.target}: {len(survivors)} of {len(numbers)} mutants survive {len(tests)} files")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
