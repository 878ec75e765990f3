"""What is installed in production: locked packages, and an image of nothing else."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("given", PROJECT["dependencies"])
def test_lock_holds_each_dependency_in_a_version_that_is_asked_for(given: str) -> None:
    """The lock was made of this pyproject.toml."""
    wanted = Requirement(given)

    assert wanted.specifier.contains(LOCKED[canonicalize_name(wanted.name)])


def test_lock_has_hashes_for_everything_and_names_no_source() -> None:
    """What is installed is what was tested, wherever it comes from."""
    stanzas = re.split(r"^(?=[a-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE), flags=re.M)

    assert [stanza for stanza in stanzas if stanza and "--hash=sha256:" not in stanza] == []
    assert re.findall(r"://|--index|--find-links|file:", LOCK) == []


def test_image_is_made_of_files_that_its_context_holds() -> None:
    """The list of what may enter is complete."""
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    copied = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE)

    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_image_runs_a_command_that_exists_and_not_as_root() -> None:
    """A number, since orchestrators cannot tell who a name is."""
    command = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])

    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        main([command[0], "--help"])
    assert ended.value.code == 0
