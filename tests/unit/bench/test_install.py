"""How peers are installed, and what is said of those that are not."""

from pathlib import Path

import pytest

from bench.peers import PEERS, process
from bench.peers.install import FROM_NPM, FROM_PYPI, commands
from bench.peers.process import AbsentError, installed


def test_every_peer_is_installed_by_the_script_or_by_the_distribution() -> None:
    """No peer is left that readers cannot get."""
    assert {*FROM_PYPI, *FROM_NPM} == set(PEERS) - {"haproxy"}


def test_each_peer_has_an_environment_of_its_own() -> None:
    """Their requirements contradict each other and this project's."""
    homes = {str(process.FOLDER / name) for name in (*FROM_PYPI, *FROM_NPM)}
    targets = {
        next(word for word in command if word in homes)
        for name in (*FROM_PYPI, *FROM_NPM)
        for command in commands(name)[:1]
    }

    assert targets == homes


def test_peer_that_is_not_installed_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results say why it is missing, and how to change that."""
    monkeypatch.setattr(process, "FOLDER", tmp_path)

    with pytest.raises(AbsentError, match=r"bench\.peers\.install envoy"):
        installed("envoy", "bin/envoy")
