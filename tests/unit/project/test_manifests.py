"""The chart's manifests agree with each other, with the configuration and with the gateway."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from gateway.cli.main import main
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import Settings
from gateway.settings.loader import load

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
CHART = DEPLOY / "helm" / "capio"
RENDERED = (DEPLOY / "k8s" / "capio.yaml").read_text("utf-8")
OBJECTS: list[dict[str, Any]] = [each for each in yaml.safe_load_all(RENDERED) if each]
WORKLOADS = {
    each["metadata"]["labels"]["app.kubernetes.io/component"]: each
    for each in OBJECTS
    if each["kind"] in {"Deployment", "Job"}
}
SERVERS = ("gateway", "ledger", "console")
ALL = pytest.mark.parametrize("name", ["gateway", "ledger", "console", "migrate"])


def renderer() -> ModuleType:
    """The script that renders the manifests."""
    spec = importlib.util.spec_from_file_location("render", DEPLOY / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pod_of(name: str) -> dict[str, Any]:
    """The pod's specification."""
    pod: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return pod


def container_of(name: str) -> dict[str, Any]:
    """The pod's one container."""
    (container,) = pod_of(name)["containers"]
    return dict(container)


def settings_of(name: str) -> Settings:
    """The settings in a pod: the mounted file and the overrides of the environment."""
    overrides = {
        each["name"]: each["value"] for each in container_of(name)["env"] if "value" in each
    }
    return load(CHART / "files" / "capio.toml", capabilities, overrides)


def test_rendered_manifests_are_those_of_the_chart() -> None:
    """The digest in the first line is the chart's; with Helm installed, so is every line."""
    render = renderer()
    assert render.chart_digest() in RENDERED.splitlines()[0], "run `make manifests`"
    helm = render.helm()
    if helm is not None:
        command = [helm, "template", "capio", str(CHART), *render.OPTIONS]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert RENDERED.split("\n", 1)[1] == text


def rendered_with(*values: str) -> list[dict[str, Any]]:
    """The objects that Helm makes with other values."""
    helm = renderer().helm()
    if helm is None:
        pytest.skip("helm is not installed")
    options = [word for value in values for word in ("--set", value)]
    command = [helm, "template", "capio", str(CHART), *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [each for each in yaml.safe_load_all(text) if each]


def gateway_ports(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Which ports the gateway's settings, container, probes, policy and Service name."""
    of = {each["kind"]: each for each in objects if each["metadata"]["name"] == "capio-gateway"}
    (container,) = of["Deployment"]["spec"]["template"]["spec"]["containers"]
    overrides = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    server = load(CHART / "files" / "capio.toml", capabilities, overrides).server
    clients = of["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    return {
        "settings": {"http": server.port, "direct": server.direct_port},
        "container": {port["name"]: port["containerPort"] for port in container["ports"]},
        "probes": {
            value["httpGet"]["port"] for key, value in container.items() if key.endswith("Probe")
        },
        "clients": [port["port"] for port in clients],
        "target": [port["targetPort"] for port in of["Service"]["spec"]["ports"]],
    }


def test_no_direct_port_by_default() -> None:
    """It is neither open nor named anywhere."""
    assert gateway_ports(OBJECTS) == {
        "settings": {"http": 8080, "direct": None},
        "container": {"http": 8080, "metrics": 9464},
        "probes": {"http"},
        "clients": ["http"],
        "target": ["http"],
    }


@pytest.mark.parametrize("target", ["http", "direct"])
def test_direct_port_is_open_to_clients_and_may_be_the_target(target: str) -> None:
    """Probes stay on the other port; the scrapers' port and other pods do not change."""
    objects = rendered_with("gateway.directPort=8081", f"gateway.service.target={target}")

    assert gateway_ports(objects) == {
        "settings": {"http": 8080, "direct": 8081},
        "container": {"http": 8080, "direct": 8081, "metrics": 9464},
        "probes": {"http"},
        "clients": ["http", "direct"],
        "target": [target],
    }
    others = [each for each in objects if each["metadata"]["name"] != "capio-gateway"]
    assert "direct" not in {
        port["port"]
        for each in others
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"]["ingress"]
        for port in rule["ports"]
    }


def test_workloads_are_complete() -> None:
    """The parts of a deployment: three that serve, and the migration."""
    assert set(WORKLOADS) == {*SERVERS, "migrate"}


@ALL
def test_pod_runs_without_rights(name: str) -> None:
    """No root, no writable root, no capability, no token of the cluster."""
    pod, container = pod_of(name), container_of(name)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
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
    assert mounts["data"] == settings_of(name).server.data_dir
    assert container["args"][1:] == ["--config", f"{mounts['config']}/capio.toml"]
    with pytest.raises(SystemExit) as ended:
        main([container["args"][0], "--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize("name", SERVERS)
def test_ports_and_probes_are_those_of_the_settings(name: str) -> None:
    """Each probe and port is one that the process opens, on all addresses."""
    container, settings = container_of(name), settings_of(name)
    listening = {
        "gateway": {"http": settings.server.port, "metrics": settings.metrics.port},
        "ledger": {"metrics": settings.metrics.port},
        "console": {"http": settings.console.port},
    }[name]
    hosts = {
        "gateway": [settings.server.host, settings.metrics.host],
        "ledger": [settings.metrics.host],
        "console": [settings.console.host],
    }[name]
    probes = [value for key, value in container.items() if key.endswith("Probe")]

    assert {port["name"]: port["containerPort"] for port in container["ports"]} == listening
    assert set(hosts) == {"0.0.0.0"}
    assert len(probes) >= 2
    for probe in probes:
        assert (probe.get("httpGet") or probe["tcpSocket"])["port"] in listening


@pytest.mark.parametrize("name", SERVERS)
def test_pod_leaves_the_migration_to_the_job(name: str) -> None:
    """No pod changes tables; only the console serves pages, only ledger pods write the ledger."""
    settings = settings_of(name)

    assert settings.sql.migrate is False
    assert settings.server.ledger_writer is (name != "gateway")
    assert settings.console.enabled is (name != "gateway")


def test_console_is_small_and_there_are_two() -> None:
    """So that one serves while the other is replaced; its share of CPU leaves calls alone."""
    resources = container_of("console")["resources"]

    assert WORKLOADS["console"]["spec"]["replicas"] == 2
    assert resources["requests"]["cpu"] == "100m"
    assert resources["limits"] == {"memory": "256Mi"}


def test_routes_send_to_the_gateway_what_it_serves() -> None:
    """In both kinds of routes: inference, the admin API and probes; all else to the console."""
    text = (CHART / "templates" / "routing.yaml").read_text("utf-8")
    ingress, http_route = text.split("kind: HTTPRoute")

    for part in (ingress, http_route):
        assert re.findall(r"range list (.+?) }}", part) == [
            '"/v1" "/admin"',
            '"/api/hello" "/healthz" "/readyz"',
        ]
        assert re.search(r"(path: /$|value: / )", part, re.MULTILINE)
        assert part.index("{{ $gateway }}, port") < part.index("{{ $console }}, port")


def test_gateway_gets_the_time_that_its_streams_may_take() -> None:
    """The termination grace period is longer than the drain and the grace period together."""
    pod, server = pod_of("gateway"), settings_of("gateway").server

    assert pod["terminationGracePeriodSeconds"] >= server.drain_s + server.grace_s + 30
    assert server.drain_s >= 10, "a Service takes seconds to remove a pod"
    assert "lifecycle" not in container_of("gateway"), "SIGTERM drains by itself"


def test_gateway_has_a_core_for_each_worker() -> None:
    """The CPU request is one core for each worker."""
    request = container_of("gateway")["resources"]["requests"]["cpu"]

    assert int(request) == settings_of("gateway").server.workers == 1


def test_pods_get_the_secrets_that_they_use() -> None:
    """Ledger, console and migration have no provider's credential."""
    stores = {"REDIS_PASSWORD", "PGPASSWORD"}
    for name, wanted in {
        "ledger": stores,
        "migrate": stores,
        "console": stores | {"CONSOLE_SECRET"},
    }.items():
        container = container_of(name)
        assert "envFrom" not in container
        assert {each["name"] for each in container["env"] if "valueFrom" in each} == wanted


def test_selectors_choose_the_pods_they_mean() -> None:
    """Services, budgets, policies and deployments name labels of exactly one component."""
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in WORKLOADS.items()
    }
    checked = 0
    for each in OBJECTS:
        spec = each.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector)
        chosen = [name for name, found in labels.items() if wanted.items() <= found.items()]
        assert each["metadata"]["name"] == f"capio-{chosen[0]}"
        assert len(chosen) == 1
        checked += 1
    assert checked == 3 + 2 + 3 + 3  # deployments, services, budgets, policies


def test_pods_spread_over_zones_and_nodes() -> None:
    """Each server prefers another zone, then another node, for its next pod."""
    for name in SERVERS:
        keys = [each["topologyKey"] for each in pod_of(name)["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_autoscaler_follows_running_calls_and_cpu() -> None:
    """Calls in flight for each pod first, CPU beside it."""
    (scaler,) = [each for each in OBJECTS if each["kind"] == "HorizontalPodAutoscaler"]
    pods, cpu = scaler["spec"]["metrics"]

    assert pods["pods"]["metric"]["name"] == "gateway_in_flight_calls"
    assert cpu["resource"]["name"] == "cpu"
    assert scaler["spec"]["scaleTargetRef"]["name"] == "capio-gateway"


SCHEMA = Draft7Validator(json.loads((CHART / "values.schema.json").read_text("utf-8")))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


def test_every_value_is_in_the_schema() -> None:
    """The schema names each value of values.yaml and no other, and accepts the defaults."""
    assert set(SCHEMA.schema["properties"]) - {"global"} == set(VALUES)
    assert list(SCHEMA.iter_errors(VALUES)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"gatewey": {}},
        {"gateway": {"replicas": 0}},
        {"gateway": {"workers": "2"}},
        {"gateway": {"directPort": 9464}},
        {"gateway": {"directPort": 0, "service": {"target": "direct"}}},
        {"gateway": {"directPort": 8081, "service": {"target": "metrics"}}},
        {"autoscaling": {"kind": "vpa"}},
        {"autoscaling": {"kind": "hpa", "targetCPU": 0, "targetInFlight": 0}},
        {"httpRoute": {"enabled": True, "parentRefs": []}},
        {"loadTest": {"enabled": True, "image": ""}},
        {"image": {"repository": "capio", "digest": "sha256:12"}},
        {"secret": {"name": "capio", "storeKeys": ["NOT-A-NAME"]}},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    """Unknown names, wrong types and contradictions are errors of the schema."""
    assert list(SCHEMA.iter_errors(wrong)) != []
