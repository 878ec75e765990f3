"""Where each module of the gateway is tested: by a test of its name, or as a table says."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GATEWAY = ROOT / "gateway"
TESTS = ROOT / "tests"
MIRRORS = ("unit", "integration")

# Modules without a test of their own: the tests that reach them through the package's interface.
THROUGH_INTERFACES = {
    "app.py": "tests/process/test_life.py",
    "worker.py": "tests/process/test_life.py",
    "console/library": "tests/unit/console/library",
    "console/openapi": "tests/unit/console/openapi",
    "cli": "tests/unit/cli/test_commands.py",
    "console": "tests/unit/console",
    "demo": "tests/unit/project/test_demo_script.py",
    "edge": "tests/integration/edge",
    "operations": "tests/unit/operations",
    "pipeline": "tests/unit/pipeline",
    "protocols/anthropic_messages": "tests/unit/protocols",
    "protocols/codec": "tests/unit/protocols/codec",
    "protocols/http": "tests/unit/protocols/http",
    "protocols/openai_chat": "tests/unit/protocols",
    "protocols/openai_responses": "tests/unit/protocols/openai_responses",
    "protocols/streams": "tests/unit/protocols/streams",
    "protocols/translate": "tests/unit/protocols",
    "server": "tests/process",
    "settings": "tests/unit/settings",
    "store/limits": "tests/integration/store/limits",
    "store/booking": "tests/integration/store/booking",
    "store/usage": "tests/integration/store/usage",
    "telemetry": "tests/process/test_records.py",
    "upstream": "tests/integration/upstream",
}


def modules() -> list[Path]:
    """Return the modules that hold behaviour, relative to the package."""
    return [
        path.relative_to(GATEWAY)
        for path in sorted(GATEWAY.rglob("*.py"))
        if not path.name.startswith("__") and "versions" not in path.parts
    ]


def imported_by_tests() -> set[str]:
    """Return the names that tests import from the gateway, with their modules."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def has_test_of_its_name(module: Path) -> bool:
    """Return whether a mirrored directory holds `test_<module>.py` or `test_<module>_*.py`."""
    return any(
        path.stem == f"test_{module.stem}" or path.stem.startswith(f"test_{module.stem}_")
        for mirror in MIRRORS
        for path in (TESTS / mirror / module.parent).glob("test_*.py")
    )


def is_in_table(module: Path) -> bool:
    """Return whether the table has the module or a package that holds it."""
    return any(path.as_posix() in THROUGH_INTERFACES for path in (module, *module.parents))


def test_every_module_has_a_test() -> None:
    """A module has a test of its name, or a test that imports it, or an entry in the table."""
    imported = imported_by_tests()
    untested = [
        module.as_posix()
        for module in modules()
        if not has_test_of_its_name(module)
        and ".".join(("gateway", *module.with_suffix("").parts)) not in imported
        and not is_in_table(module)
    ]

    assert untested == []


def test_table_names_tests_that_exist() -> None:
    """Each place of the table is a test module or a directory with some."""
    missing = [
        place
        for place in THROUGH_INTERFACES.values()
        if not ((ROOT / place).is_file() or any((ROOT / place).rglob("test_*.py")))
    ]

    assert missing == []
