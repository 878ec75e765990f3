"""The Kubernetes manifests agree with each other and with the configuration that they mount."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.main import main
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import load

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "k8s"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    each
    for name in KUSTOMIZATION["resources"]
    for each in yaml.safe_load_all((FOLDER / name).read_text())
]
DEPLOYMENTS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "Deployment"}
SETTINGS = load(FOLDER / "capio.toml", capabilities)
ALL = pytest.mark.parametrize("name", DEPLOYMENTS)


def pod_of(name: str) -> dict[str, Any]:
    """The pod's specification."""
    pod: dict[str, Any] = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return pod


def container_of(name: str) -> dict[str, Any]:
    """The pod's one container."""
    (container,) = pod_of(name)["containers"]
    return dict(container)


def test_every_file_of_the_folder_is_used() -> None:
    """The kustomization lists every file of the folder."""
    used = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configMapGenerator"][0]["files"]}

    assert used == {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml", "README.md"}


@ALL
def test_pod_runs_without_rights(name: str) -> None:
    """No root, no writable root, no capability, no token of the cluster."""
    pod, container = pod_of(name), container_of(name)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@ALL
def test_pod_has_what_it_mounts_and_writes(name: str) -> None:
    """The configuration is where the command looks for it, its data where it may be written."""
    pod, container = pod_of(name), container_of(name)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}

    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["data"] == SETTINGS.server.data_dir
    assert container["args"][1:] == ["--config", f"{mounts['config']}/capio.toml"]
    with pytest.raises(SystemExit) as ended:
        main([container["args"][0], "--help"])
    assert ended.value.code == 0


@ALL
def test_ports_and_probes_are_those_of_the_configuration(name: str) -> None:
    """Each probe and port is one that the configuration opens."""
    container = container_of(name)
    listening = {"http": SETTINGS.server.port, "metrics": SETTINGS.metrics.port}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = [value["httpGet"]["port"] for key, value in container.items() if "Probe" in key]
    scraped = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["annotations"]

    assert ports.items() <= listening.items()
    assert probes
    assert set(probes) <= set(ports)
    assert scraped["prometheus.io/port"] == str(SETTINGS.metrics.port)
    assert (SETTINGS.server.host, SETTINGS.metrics.host) == ("0.0.0.0", "0.0.0.0")


def test_gateway_gets_the_time_that_its_streams_may_take() -> None:
    """The termination grace period is longer than the drain and the grace period together."""
    pod, server = pod_of("gateway"), SETTINGS.server

    assert pod["terminationGracePeriodSeconds"] >= server.drain_s + server.grace_s + 30
    assert server.drain_s >= 10, "a Service takes seconds to remove a pod"
    assert "lifecycle" not in container_of("gateway"), "SIGTERM drains by itself"


def test_ledger_gets_the_secrets_of_the_stores_alone() -> None:
    """The ledger has no provider's credential."""
    container = container_of("ledger")

    assert "envFrom" not in container
    assert {each["name"] for each in container["env"]} == {
        SETTINGS.redis.password_env,
        SETTINGS.sql.password_env,
    }


def test_gateway_has_a_core_for_each_worker() -> None:
    """The CPU request is one core for each worker."""
    request = container_of("gateway")["resources"]["requests"]["cpu"]

    assert int(request) == SETTINGS.server.workers


def test_selectors_choose_the_pods_they_mean() -> None:
    """Service, budget and deployments name labels that the pods carry."""
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in DEPLOYMENTS.items()
    }
    for each in OBJECTS:
        selector = each.get("spec", {}).get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            name = each["metadata"]["name"]
            assert wanted.items() <= labels[name].items()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_the_manifests() -> None:
    """The tool takes them, and gives the configuration a name that follows its content."""
    built = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    ).stdout
    kinds = [each["kind"] for each in yaml.safe_load_all(built)]

    assert sorted(kinds) == sorted([each["kind"] for each in OBJECTS] + ["ConfigMap"])
    assert built.count("name: capio-config-") == 1 + len(DEPLOYMENTS)
