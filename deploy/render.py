"""
Renders deploy/k8s/capio.yaml from the chart in deploy/helm: `make manifests`.

The first line holds a digest of the chart, by which a test without Helm sees whether the rendered
manifests are current.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHART = FOLDER / "helm" / "capio"
RENDERED = FOLDER / "k8s" / "capio.yaml"
TOOLS = FOLDER.parent / ".tools"
# `kubectl apply` knows no hooks: the migration is an ordinary Job, and pods wait for it.
OPTIONS = ("--namespace", "capio", "--set", "migration.hook=false")
# Written by deploy/monitoring.py; the default values leave them out.
LEFT_OUT = {"capio.rules.yaml", "capio.dashboard.json"}


def chart_digest() -> str:
    """Return the SHA-256 of all files that the rendering depends on."""
    digest = hashlib.sha256(repr(OPTIONS).encode())
    for path in sorted(CHART.rglob("*")):
        used = path.is_file() and path.parent.name != "ci" and path.name not in LEFT_OUT
        if used:
            digest.update(path.relative_to(CHART).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def helm() -> str | None:
    """Return the path of Helm, installed or fetched by `make check-deploy`."""
    return shutil.which("helm", path=f"{os.environ.get('PATH', '')}:{TOOLS}")


def main() -> None:
    """Write the manifests; with `--check`, say whether they are current instead."""
    found = helm()
    if found is None:
        sys.exit("helm is not installed; `make check-deploy` fetches it")
    command = [found, "template", "capio", str(CHART), *OPTIONS]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    notice = f"# Written by `make manifests` from a chart with the digest {chart_digest()}.\n"
    if sys.argv[1:] != ["--check"]:
        RENDERED.write_text(notice + text, "utf-8")
    elif RENDERED.read_text("utf-8") != notice + text:
        sys.exit("deploy/k8s/capio.yaml is not current: run `make manifests`")


if __name__ == "__main__":
    main()
