"""The image, its list of packages, and the compose file that runs it."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.cli.main import main
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import ConfigError, Wanted, resolve_secrets
from gateway.settings.loader import load

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WANTED = {
    "gateway": Wanted.ALL,
    "ledger": Wanted.STORES,
    "console": Wanted.CONSOLE,
    "migrate": Wanted.STORES,
}
"""The secrets that each service's command asks for."""


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


def test_image_finds_the_mounted_file_and_no_module_beside_the_data() -> None:
    """Every command reads the file that the services mount; the volume is not on Python's path."""
    (variables,) = re.findall(r"^ENV ((?:.+\\\n)*.+)$", DOCKERFILE, re.MULTILINE)
    environment = dict(re.findall(r"(\w+)=(\S+)", variables))

    assert (
        f"./compose/capio.toml:{environment['CAPIO_CONFIG']}:ro" in SERVICES["gateway"]["volumes"]
    )
    assert environment["PYTHONSAFEPATH"] == "1"


def test_label_has_the_packages_version() -> None:
    """Unless a build gives another one."""
    assert f"\nARG VERSION={__version__}\n" in DOCKERFILE


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


@pytest.mark.parametrize("name", WANTED)
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


@pytest.mark.parametrize("name", WANTED)
def test_compose_gives_each_service_its_secrets(name: str) -> None:
    """The stores are services; with its environment a service starts, with one secret less not."""
    environment: dict[str, str] = SERVICES[name]["environment"]
    overrides = {key: value for key, value in environment.items() if key.startswith("CAPIO_")}
    settings = load(ROOT / "deploy" / "compose" / "capio.toml", capabilities, overrides)
    given = {key: "s" * 32 for key in environment if key not in overrides}

    def start(names: set[str]) -> None:
        resolve_secrets(
            settings, {each: given[each] for each in names}, unread, wanted=WANTED[name]
        )

    start(set(given))
    for each in given:
        with pytest.raises(ConfigError, match=each):
            start(set(given) - {each})
    assert settings.sql.migrate is False
    assert re.search(r"//(\w+)", settings.redis.url)[1] in SERVICES  # type: ignore[index]
    assert re.search(r"@(\w+)", settings.sql.url)[1] in SERVICES  # type: ignore[index]


def unread(path: str) -> str:
    """No secret of the compose file is a file."""
    pytest.fail(f"{path} was read")


def test_compose_does_not_take_a_database_in_the_making_for_a_ready_one() -> None:
    """Meanwhile a server listens on the socket alone; an error reply is a failed check."""
    assert SERVICES["postgres"]["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "-h"]
    assert SERVICES["valkey"]["healthcheck"]["test"] == ["CMD", "valkey-cli", "-e", "ping"]
    # The entry point of the image drops root only for a first argument of this name.
    assert "exec docker-entrypoint.sh valkey-server " in SERVICES["valkey"]["command"][-1]


def test_secrets_of_the_compose_file_are_not_committed() -> None:
    """They are in deploy/.env."""
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


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
    servers = dict(re.findall(r"upstream (\w+) \{[^}]*server ([\w:]+) resolve;", text))
    port = server.direct_port if overlay else server.port

    assert SERVICES["proxy"]["volumes"] == [
        "./compose/nginx.conf.template:/etc/nginx/templates/default.conf.template:ro"
    ]
    assert servers == {"gateway": f"gateway:{port}", "console": "console:8079"}
    assert set(re.findall(r"proxy_pass http://([\w:]+);", text)) == set(servers)
    # Services get new addresses when they are made anew; nginx asks Docker's resolver for them.
    assert environment["proxy"]["NGINX_ENTRYPOINT_LOCAL_RESOLVERS"] == "1"
    assert "resolver ${NGINX_LOCAL_RESOLVERS} " in text
    assert re.search(r"location /admin/ +\{ return 404; \}", text)
    assert "proxy_buffering off" in text
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    # Docker takes addresses of networks from these.
    assert {"172.16.0.0/12", "192.168.0.0/16"} <= {*map(str, server.trusted_proxies)}
