"""The snippets of the documentation run as they are written, against the running gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.console.library.library import Library
from gateway.console.library.markdown import Snippet
from gateway.console.library.site import site_of
from gateway.server.demonstration import demo_settings
from tests.support.service import Key, Service

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

URL = "http://127.0.0.1:8080"
SNIPPETS = [
    pytest.param(snippet, id=f"{page.path}-{number}")
    for page in Library(site_of(demo_settings(8080, 9464, 1, 1))).pages.values()
    for number, snippet in enumerate(page.rendered.snippets)
    if snippet.test in ("run", "fails")
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_runs(snippet: Snippet, gateway: Service, key: Key, tmp_path: Path) -> None:
    """Only the host is replaced. curl also fails on an error status, unless one is shown."""
    code = snippet.text.replace(URL, gateway.url)
    assert code != snippet.text
    command = [sys.executable, "-c", code]
    if snippet.language == "sh":
        strict = "" if snippet.test == "fails" else " --fail"
        command = ["bash", "-euo", "pipefail", "-c", code.replace("curl ", f"curl -sS{strict} ")]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "CAPIO_API_KEY": key.raw},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert ('"error":{' in done.stdout) == (snippet.test == "fails")


def test_snippets_cover_each_kind_of_call() -> None:
    """Shell and Python, both SDKs, and an error."""
    texts = [msgspec.structs.astuple(param.values[0]) for param in SNIPPETS]  # type: ignore[arg-type]
    joined = str(texts)

    assert len(SNIPPETS) >= 10
    assert all(word in joined for word in ("OpenAI(", "Anthropic(", "/v1/generation", "fails"))
