"""What is installed in production: an image of the locked packages and nothing else."""

import json
import re
from pathlib import Path

import pytest

from gateway.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_image_is_made_of_files_that_its_context_holds() -> None:
    """The image copies the files that `.dockerignore` admits, and they exist."""
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    copied = re.findall(r"^COPY ([^-]\S*) ", DOCKERFILE, re.MULTILINE)

    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_image_runs_a_command_that_exists_and_not_as_root() -> None:
    """The user is a number, because orchestrators cannot check whether a name is root."""
    command = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])

    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        main([command[0], "--help"])
    assert ended.value.code == 0
