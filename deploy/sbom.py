"""
Prints the CycloneDX 1.5 list of the installed packages: `python deploy/sbom.py requirements.lock`.

Each package has its version, licence and, from the lock file, the hashes of its distributions. The
packages of the operating system belong to the base image and its own list.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return name -> version and SHA-256 hashes of a lock file."""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        named = re.match(r"([A-Za-z0-9_.-]+)==([^\s;]+)", entry)
        if named:
            found[normalized(named[1])] = named[2], re.findall(r"sha256:([0-9a-f]{64})", entry)
    return found


def normalized(name: str) -> str:
    """Return a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials(lock: str) -> dict[str, Any]:
    """Return the document for the locked packages that are installed."""
    components = []
    for name, (version, hashes) in sorted(locked(lock).items()):
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # locked for another platform
        if installed.version != version:
            sys.exit(f"{name} {installed.version} is installed, but {version} is locked")
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            # A lock file does not say which of its distributions was taken: each is listed.
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"pkg:pypi/{name}@{version}",
                    "hashes": [{"alg": "SHA-256", "content": each}],
                }
                for each in hashes
            ],
        }
        licence = installed.metadata.get("License-Expression")
        if licence:
            component["licenses"] = [{"expression": licence}]
        components.append(component)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "capio"}},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(bill_of_materials(Path(sys.argv[1]).read_text("utf-8")), sys.stdout, indent=1)
