"""The image, its list of packages, and the compose file that runs it."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gateway.cli.main import main
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings.loader import load

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = ("gateway", "ledger", "console", "migrate")


def sbom() -> ModuleType:
    """The script that lists the packages."""
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_image_runs_as_the_user_of_the_manifests() -> None:
    """User and group are those of the pods, given as numbers."""
    assert "USER 10001:10001" in DOCKERFILE
    assert "groupadd --gid 10001" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE


def test_image_copies_only_what_its_context_has() -> None:
    """.dockerignore lets through each path that the Dockerfile copies."""
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    copied = set(re.findall(r"^COPY ([^-]\S*) ", DOCKERFILE, re.MULTILINE))
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_image_runs_a_command_that_exists_and_not_as_root() -> None:
    """The user is a number, because orchestrators cannot check whether a name is root."""
    command = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])

    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        main([command[0], "--help"])
    assert ended.value.code == 0


def test_bill_of_materials_lists_locked_packages_with_their_hashes() -> None:
    """Each installed package of the lock file, with version, purl and hashes."""
    document = sbom().bill_of_materials((ROOT / "requirements.lock").read_text("utf-8"))
    components = {each["name"]: each for each in document["components"]}

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert {"granian", "msgspec", "prometheus-client", "uvloop"} <= set(components)
    for name, component in components.items():
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        hashes = [each["hashes"][0]["content"] for each in component["externalReferences"]]
        assert hashes
        assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes)


def test_bill_of_materials_refuses_another_version_than_the_locked_one() -> None:
    """A list of something else than what is installed is not written."""
    with pytest.raises(SystemExit, match=r"msgspec .* is installed, but 0\.0\.1 is locked"):
        sbom().bill_of_materials("msgspec==0.0.1 \\\n    --hash=sha256:" + "0" * 64 + "\n")


@pytest.mark.parametrize("name", OWN)
def test_compose_runs_commands_that_exist_without_rights(name: str) -> None:
    """A command of the CLI, the mounted configuration, no capability, no writable root."""
    service = SERVICES[name]
    command = service.get("command", ["serve", "--config", "/etc/capio/capio.toml"])

    assert command[1:] == ["--config", "/etc/capio/capio.toml"]
    assert "./compose/capio.toml:/etc/capio/capio.toml:ro" in service["volumes"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    with pytest.raises(SystemExit) as ended:
        main([command[0], "--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize("name", OWN)
def test_compose_gives_each_service_its_secrets(name: str) -> None:
    """The configuration's stores are services, and each gets the secrets that it uses."""
    environment = SERVICES[name]["environment"]
    overrides = {key: value for key, value in environment.items() if key.startswith("CAPIO_")}
    settings = load(ROOT / "deploy" / "compose" / "capio.toml", capabilities, overrides)
    secrets = {settings.redis.password_env, settings.sql.password_env}
    if name == "gateway":
        secrets.add(settings.providers[0].api_key_env)
    if name == "console":
        secrets.add(settings.console.secret_env)

    assert set(environment) - set(overrides) == secrets
    assert settings.sql.migrate is False
    assert re.search(r"//(\w+)", settings.redis.url)[1] in SERVICES  # type: ignore[index]
    assert re.search(r"@(\w+)", settings.sql.url)[1] in SERVICES  # type: ignore[index]


@pytest.mark.parametrize("overlay", ["", "direct-port.yaml"])
def test_compose_front_routes_to_services_and_their_ports(overlay: str) -> None:
    """Nginx sends to services that exist, by the ports of their settings; /admin is not public."""
    folder = ROOT / "deploy" / "compose"
    environment = {name: dict(SERVICES[name]["environment"]) for name in ("gateway", "proxy")}
    if overlay:
        changes = yaml.safe_load((folder / overlay).read_text("utf-8"))["services"]
        assert set(changes) == set(environment)
        for name, service in changes.items():
            assert set(service) == {"environment"}
            environment[name] |= service["environment"]
    overrides = {key: value for key, value in environment["gateway"].items() if "CAPIO_" in key}
    server = load(folder / "capio.toml", capabilities, overrides).server
    template = (folder / "nginx.conf.template").read_text("utf-8")
    text = template.replace("${GATEWAY_PORT}", environment["proxy"]["GATEWAY_PORT"])
    port = server.direct_port if overlay else server.port

    assert SERVICES["proxy"]["volumes"] == [
        "./compose/nginx.conf.template:/etc/nginx/templates/default.conf.template:ro"
    ]
    assert set(re.findall(r"proxy_pass http://([\w:]+);", text)) == {
        f"gateway:{port}",
        "console:8079",
    }
    assert re.search(r"location /admin/ +\{ return 404; \}", text)
    assert "proxy_buffering off" in text
