"""The lock files: hashed, agreeing with pyproject.toml, with each other, and with this machine."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
RUNTIME, DEVELOPMENT, BUILD, COMPILE = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-build.lock",
    "requirements-compile.lock",
)
ASKED = {
    RUNTIME: PYPROJECT["project"]["dependencies"],
    DEVELOPMENT: [
        *PYPROJECT["project"]["dependencies"],
        *EXTRAS["dev"],
        *EXTRAS["bench"],
        *PYPROJECT["dependency-groups"]["build"],
    ],
    BUILD: PYPROJECT["dependency-groups"]["build"],
    COMPILE: [
        *PYPROJECT["dependency-groups"]["build"],
        *(each for each in PYPROJECT["dependency-groups"]["compile"] if isinstance(each, str)),
    ],
}


def stanzas(lock: str) -> list[str]:
    """Return the entries of a lock file, comments left out."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    return [each for each in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if each]


def locked(lock: str) -> list[Requirement]:
    """Return what a lock file pins, with its markers."""
    return [Requirement(each.split("\\")[0].strip()) for each in stanzas(lock)]


def version_of(requirement: Requirement) -> str:
    """Return the one version that is pinned."""
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def versions(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package; markers may ask for several."""
    found: dict[str, set[str]] = {}
    for each in locked(lock):
        found.setdefault(canonicalize_name(each.name), set()).add(version_of(each))
    return found


@pytest.mark.parametrize("lock", ASKED)
def test_lock_holds_what_the_project_asks_for(lock: str) -> None:
    """Each locked version is within the range that the project declares."""
    pinned = versions(lock)
    for given in ASKED[lock]:
        wanted = Requirement(given)
        found = pinned.get(canonicalize_name(wanted.name), set())
        assert found, f"{lock} lacks {wanted.name}: run `make lock`"
        assert all(wanted.specifier.contains(version) for version in found), given


@pytest.mark.parametrize("lock", ASKED)
def test_lock_has_hashes_and_names_no_source(lock: str) -> None:
    """What is installed is what was tested, wherever it comes from."""
    assert [each for each in stanzas(lock) if "--hash=sha256:" not in each] == []
    text = (ROOT / lock).read_text("utf-8")
    assert re.findall(r"://|--index|--extra-index|--find-links|file:", text) == []


@pytest.mark.parametrize("lock", [RUNTIME, BUILD])
def test_development_runs_what_is_shipped(lock: str) -> None:
    """The lock of development holds the others' versions."""
    development = versions(DEVELOPMENT)
    for name, pinned in versions(lock).items():
        assert pinned == development[name], name


def test_compiler_is_the_type_checker_of_development() -> None:
    """What `make types` accepts compiles; only setuptools is added."""
    development = versions(DEVELOPMENT)
    compiling = versions(COMPILE)

    assert set(compiling) - set(development) == {"setuptools"}
    assert all(compiling[name] == development[name] for name in compiling.keys() & development)


def test_what_is_installed_is_what_is_locked() -> None:
    """Tests say nothing about other versions. Mended by `make setup`."""
    only_for_building = set(versions(BUILD)) - set(versions(RUNTIME))
    differing: list[str] = []
    for each in locked(DEVELOPMENT):
        if each.marker is not None and not each.marker.evaluate():
            continue
        try:
            found = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            if canonicalize_name(each.name) not in only_for_building:
                differing.append(f"{each.name}: not installed")
            continue
        if found != version_of(each):
            differing.append(f"{each.name}: {found} installed, {version_of(each)} locked")

    assert differing == []


def test_make_installs_from_the_locks_alone() -> None:
    """No rule of the Makefile lets pip choose a version for the project."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    installs = re.findall(r"^\t\$\(PIP\) (.+)$", makefile, re.MULTILINE)

    assert installs
    assert all(each.startswith("--require-hashes -r requirements") for each in installs)
    assert "$(PIP) --no-deps --no-build-isolation --editable ." in makefile
