"""Where each module is tested: by a test of its name, or as `tested_by.toml` says."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GATEWAY = ROOT / "gateway"
TESTS = ROOT / "tests"
MIRRORS = ("unit", "integration")
TESTED_BY = {
    Path(package) / f"{module}.py": test
    for package, modules in tomllib.loads(
        Path(__file__).with_name("tested_by.toml").read_text("utf-8")
    ).items()
    for module, test in modules.items()
}


def modules() -> list[Path]:
    """Return the modules that hold behaviour, relative to the package."""
    return [
        path.relative_to(GATEWAY)
        for path in sorted(GATEWAY.rglob("*.py"))
        if not path.name.startswith("__") and "versions" not in path.parts
    ]


def has_test_of_its_name(module: Path) -> bool:
    """Return whether a mirrored directory holds `test_<module>.py` or `test_<module>_*.py`."""
    return any(
        path.stem == f"test_{module.stem}" or path.stem.startswith(f"test_{module.stem}_")
        for mirror in MIRRORS
        for path in (TESTS / mirror / module.parent).glob("test_*.py")
    )


def test_every_module_has_a_test() -> None:
    """A module has a test of its name, or a line that says where it is tested."""
    untested = [
        module.as_posix()
        for module in modules()
        if not has_test_of_its_name(module) and "gateway" / module not in TESTED_BY
    ]

    assert untested == []


def test_table_names_what_exists() -> None:
    """Each line is about a module that exists, and names a test that exists."""
    paths = {module.as_posix() for module in TESTED_BY} | set(TESTED_BY.values())

    assert {path for path in paths if not (ROOT / path).is_file()} == set()
