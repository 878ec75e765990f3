"""Prometheus' rules and Grafana's dashboard are current and name only metrics that exist."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "deploy" / "helm" / "capio" / "files"
DASHBOARD: dict[str, Any] = json.loads((FILES / "capio.dashboard.json").read_text("utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((FILES / "capio.rules.yaml").read_text("utf-8"))[
    "groups"
][0]["rules"]
TESTS = ROOT / "deploy" / "prometheus" / "capio.rules.test.yaml"


def generator() -> ModuleType:
    """The script that writes the files."""
    spec = importlib.util.spec_from_file_location("monitoring", ROOT / "deploy" / "monitoring.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MONITORING = generator()
METRICS = {MONITORING.name_of(each): each for each in MONITORING.declared()}
SERIES = {
    name + suffix
    for name, each in METRICS.items()
    for suffix in (("_bucket", "_sum", "_count") if each._type == "histogram" else ("",))
}


def test_files_are_current() -> None:
    """Rules and dashboard equal what `make docs` writes."""
    for path, text in MONITORING.files().items():
        assert path.read_text("utf-8") == text, "run `make docs`"


def expressions() -> list[str]:
    """All queries of the rules and of the dashboard."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + shown


def test_queries_name_metrics_and_labels_that_exist() -> None:
    """Each series is a metric's, and each label in braces is that metric's own."""
    found: set[str] = set()
    for expr in expressions():
        named = re.findall(r"(gateway_\w+)(?:\{([^}]*)\})?", expr)
        assert named, expr
        for series, matchers in named:
            assert series in SERIES, expr
            base = re.sub(r"_(bucket|sum|count)$", "", series)
            labels = set(re.findall(r"(\w+)(?:=|!)", matchers))
            assert labels <= set(METRICS[series if series in METRICS else base]._labelnames), expr
            found.add(series if series in METRICS else base)
    assert found == set(METRICS), "each metric has a panel"


def test_panels_have_ids_and_places_of_their_own() -> None:
    """No two panels share an id or a place."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels}) == len(panels)


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    """Names are unique; severity, summary and a remedy are there."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith((".", ")."))
        assert rule["annotations"]["description"].endswith(".")


def test_tested_alerts_exist() -> None:
    """The unit tests of the rules name alerts that exist, with the texts that they have."""
    names = {rule["alert"] for rule in RULES}
    cases = yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
    tested = {each["alertname"] for case in cases for each in case["alert_rule_test"]}
    assert tested
    assert tested <= names


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    """Prometheus' own tool checks the rules and runs their unit tests."""
    assert PROMTOOL is not None
    for command in (
        ["check", "rules", str(FILES / "capio.rules.yaml")],
        ["test", "rules", str(TESTS)],
    ):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
