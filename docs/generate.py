"""
Writes the reference pages from the code: `make docs`, or `python -m docs.generate`.

Settings come from the descriptions in `gateway/settings`, errors from `gateway/errors.py` and the
texts in `gateway/console/openapi/errors.py`, dialects from the tables of `gateway/protocols`, metrics from `gateway/telemetry/metrics.py`, the README's costs from `bench/results`. `tests/unit/project/test_docs.py` fails
when a page is not what this module writes.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import msgspec.inspect as types
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from bench.harness import plots
from bench.harness.published import bench_results, published, readme_part, target_table
from bench.harness.results import Results
from gateway.console.library.markdown import anchor_of
from gateway.console.library.site import site_of
from gateway.console.library.sources import read_sources
from gateway.console.openapi.errors import ERROR_TEXTS
from gateway.errors import SURFACES, Surface
from gateway.protocols.dialects.facts import ERROR_FACTS, REQUEST_FACTS, USAGE_FACTS, Fact
from gateway.protocols.http.errors.context_full import WORDINGS
from gateway.protocols.http.errors.error_codes import ERROR_CODES
from gateway.protocols.translate.capabilities import DIALECTS, PLAIN, Capabilities
from gateway.server.demonstration import demo_settings
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

FOLDER = Path(__file__).resolve().parent
WIDTH = 120
NOTICE = "<!-- Written by `make docs`; edit the code, not this page. -->\n"

ROOT = FOLDER.parent

UNITS = {
    "bytes_per_s": "bytes per second",
    "s": "seconds",
    "ms": "milliseconds",
    "bytes": "bytes",
    "days": "days",
}
SEE = {
    "server": "[Before the body is read](money.md#before-the-body-is-read)",
    "money": "[Accounts, reservations and credit](money.md)",
    "idempotency": "[Idempotency](idempotency.md)",
    "responses": "[Stored responses](stored-responses.md)",
    "admin": "[Admin API](admin-api.md)",
    "metrics": "[Metrics](metrics.md)",
    "routing": "[Routing](routing.md)",
    "catalogue": "[The catalogue in SQL](operations.md#the-catalogue-in-sql)",
    "providers": "[Disconnected clients](money.md#disconnected-clients)",
}

CONFIGURATION = """\
# Configuration

The configuration is one TOML file: that of `--config`, else that of the environment variable `CAPIO_CONFIG`, as in the
image, else `capio.toml` in the working directory. `capio.example.toml` is a complete one.
`capio check-config` reports every error in it at once, one line each: the key path, the value, and what is allowed.
Unknown keys are errors. On `SIGHUP` a running gateway reads providers and models again; a file with errors changes
nothing.

- **Secrets are never in the file.** A setting that ends in `_env` names an environment variable, one that ends in
  `_file` names a file (relative to the working directory; a trailing newline is not part of the secret). Nothing in
  the file is expanded.
- **The environment wins over the file.** `CAPIO_SERVER__PORT=9000` sets `server.port`: `CAPIO_`, then the parts of the
  setting's path in upper case, joined by two underscores. `CAPIO_PROVIDERS__0__OPENAI__BASE_URL` is that of the first
  provider in the file. Strings are taken as they are, lists of strings may be separated by commas, all else is written
  as in TOML. Values are checked as those of the file, and errors name the variable; so do they if it names no setting.
  Variables without two underscores, and those that an `_env` setting names, are none of these.
- **`capio config`** prints every setting with its value and its source, `--changed` those that are not defaults.
- **Sections** are written `[server]`. `providers` and `models` are lists: write `[[providers]]` once for each. Settings
  are named here without their index: `providers.name` is the `name` of each provider. Error messages count from zero:
  `providers[0].name`.
- **Defaults** are written as in the file. A *required* setting has no default.
"""

ERRORS = """\
# Errors

Every error the gateway reports has a kind from this closed set. The kind is the `error_kind` of records and log lines
and a label of metrics. The shape of the body follows the path: Anthropic's for `/v1/messages` and below, OpenAI's
elsewhere. `x-should-retry` advises the vendors' SDKs; where the column is empty the header is absent and they decide.
*Source* says whose fault it is.

| kind | source | OpenAI | Anthropic | `x-should-retry` |
| --- | --- | --- | --- | --- |
"""

DIALECTS_PAGE = """\
# Dialects

What each provider documents beyond the plain API of its wire, where, and when it was read. `providers.dialect` selects
a dialect, `caps` of a provider or deployment overrides single capabilities. Capabilities that are not listed have the
value of the plain API; their meaning is described in `gateway/protocols/translate/capabilities.py`.
"""

ERROR_CODES_TEXT = """\
A code or type counts more than the HTTP status, and also in a stream. MiniMax's are read in `base_resp` only.
"""

WORDINGS_TEXT = """\
Words by which a prompt that exceeds the model's context is recognised without a code, in this order. `n` is the
prompt's number of tokens, `max` the limit. Clients get the error of their own API, with the numbers if they are named.
"""

METRICS = """\
# Metrics

Prometheus metrics at `http://<metrics.host>:<metrics.port>/metrics`, summed over all processes of one `capio serve`.
Label values come from closed sets: never a key, an account or free text. A counter appears with its first event.
Per-call metrics are updated once a second.

[Rules for Prometheus](../deploy/helm/capio/files/capio.rules.yaml) and
[a dashboard for Grafana](../deploy/helm/capio/files/capio.dashboard.json) with a panel for each metric are generated
from the code. The rules alert on:

- any `gateway_usage_lost_total`, `gateway_usage_refused_total` or `gateway_ledger_parked_total`;
- `gateway_ledger_lag_seconds` over a minute;
- `gateway_spill_oldest_seconds` over a minute while Redis is up, and a rising `gateway_spill_bytes`;
- any `gateway_deployment_state` of 4: the operator's credential or credit was refused;
- `gateway_loop_lag_seconds` with a tail over 50 ms: workers are out of CPU;
- a rising `gateway_overload_total`: workers refuse calls, see [overload](operations.md#overload);
- `gateway_errors_total` of kind `internal`.
"""


def pages() -> dict[str, str]:
    """Return the text of each generated page by its name."""
    return {
        "configuration.md": configuration_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "clients.md": clients_page(),
        "dialects.md": dialects_page(),
        "../README.md": readme_page(),
        **benchmark_pages(published()),
    }


def benchmark_pages(results: Results | None) -> dict[str, str]:
    """Return the page of the benchmarks, with published results and their plots if there are some."""
    text = (ROOT / "bench" / "README.md").read_text("utf-8")
    text = _filled(text, "targets", target_table(results))
    if results is None:
        return {"../bench/README.md": text}
    return {
        "../bench/README.md": _filled(text, "rounds", bench_results(results)),
        "images/bench-costs.svg": plots.cost_plot(results),
        "images/bench-latency.svg": plots.latency_plot(results),
    }


def configuration_page() -> str:
    """Return the reference of all settings."""
    info = types.type_info(Settings)
    assert isinstance(info, types.StructType)
    documented: dict[type, str] = {}
    parts = [NOTICE, CONFIGURATION]
    for section in info.fields:
        (table,) = _tables_in(section.type)
        is_list = isinstance(section.type, types.ListType)
        name = section.encode_name
        parts.append(f"## `[[{name}]]`\n" if is_list else f"## `[{name}]`\n")
        # Python removes the indentation itself since 3.13.
        intro = inspect.cleandoc(table.cls.__doc__ or "")
        parts.append(_wrapped(f"{intro} See {SEE[name]}." if name in SEE else intro) + "\n")
        parts.extend(_settings_in(table, f"{name}.", documented))
    return "\n".join(parts)


def errors_page() -> str:
    """Return the table of all errors, and when each occurs."""
    rows = "".join(
        f"| [`{kind.value}`](#{kind.value}) | {surface.source.value} | {surface.openai_status} |"
        f" {surface.anthropic_status} | {_advice(surface)} |\n"
        for kind, surface in SURFACES.items()
    )
    parts = [NOTICE, ERRORS + rows]
    for kind, surface in SURFACES.items():
        code = f", code `{surface.openai_code}`" if surface.openai_code else ""
        parts.append(f"## `{kind.value}`\n")
        parts.append(_wrapped(ERROR_TEXTS[kind].meaning) + "\n")
        parts.append(_wrapped(f"What to do: {_lower(ERROR_TEXTS[kind].remedy)}") + "\n")
        parts.append(f"- OpenAI: {surface.openai_status} `{surface.openai_type}`{code}")
        parts.append(f"- Anthropic: {surface.anthropic_status} `{surface.anthropic_type}`\n")
    return "\n".join(parts)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def metrics_page() -> str:
    """Return the reference of all metrics, by name."""
    declared = [
        value for value in vars(Metrics(CollectorRegistry())).values()
        if isinstance(value, MetricWrapperBase)
    ]  # fmt: skip
    parts = [NOTICE, METRICS]
    for name, metric in sorted((_metric_name(metric), metric) for metric in declared):
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        kind = str(metric._type).capitalize()
        parts.append(f"## `{name}`\n")
        parts.append(_wrapped(metric._documentation) + "\n")
        parts.append(f"- {kind}, labels {labels}\n" if labels else f"- {kind}, no labels\n")
    return "\n".join(parts)


def clients_page() -> str:
    """Return the set-ups of clients, from the pages of the console, for the demo."""
    site = site_of(demo_settings(8080, 9464, 1, 1))
    sources = [each for each in read_sources(site) if each.path.startswith("/docs/clients")]
    index, *clients = sorted(sources, key=lambda each: each.order)
    clients.sort(key=lambda each: each.path.endswith("/sdks"))
    names = {each.path: f"#{anchor_of(each.title)}" for each in clients}
    parts = [NOTICE, f"# {index.title}\n", index.text()]
    parts += [f"## {each.title}\n\n{_deeper(each.text())}" for each in clients]
    text = "\n".join(parts)
    text = re.sub(r"^(```\w+) .*$", r"\1", text, flags=re.MULTILINE)
    for path, anchor in names.items():
        text = text.replace(f"]({path})", f"]({anchor})")
    return re.sub(r"\]\(/docs/([\w-]+)(#[\w-]+)?\)", r"](\1.md\2)", text)


def _deeper(body: str) -> str:
    """Return a page whose headings stand one level lower."""
    return re.sub(r"^##", "###", body, flags=re.MULTILINE)


def dialects_page() -> str:
    """Return the capabilities and facts of all dialects."""
    parts = [NOTICE, DIALECTS_PAGE]
    for dialect, found in DIALECTS.items():
        parts.append(f"## `{dialect}`\n")
        facts = [fact for fact in REQUEST_FACTS if fact.dialect == dialect]
        parts.extend(_wrapped(f"- {fact.text} ({_source(fact)})", "  ") for fact in facts)
        differing = [
            f"`{name} = {_toml(getattr(found, name))}`"
            for name in Capabilities.__struct_fields__
            if getattr(found, name) != getattr(PLAIN, name)
        ]
        parts.append(_wrapped("- Capabilities: " + (", ".join(differing) or "none"), "  "))
        for title, table in (("Usage", USAGE_FACTS), ("Errors", ERROR_FACTS)):
            parts.extend(
                _wrapped(f"- {title}: {fact.text} ({_source(fact)})", "  ")
                for fact in table
                if fact.dialect == dialect
            )
        parts.append("")
    parts.append(f"## Error codes\n\n{ERROR_CODES_TEXT}")
    parts.extend(
        _wrapped(
            f"- {line.provider}, {line.fault.value}: {_code_list(line.codes)}"
            f" ({line.source}, {line.seen})",
            "  ",
        )
        for line in ERROR_CODES
    )
    parts.append(f"\n## A full context\n\n{WORDINGS_TEXT}")
    parts.extend(
        _wrapped(
            f"- {wording.source}, {wording.seen}: `{wording.pattern.replace('`', chr(39))}`", "  "
        )
        for wording in WORDINGS
    )
    return "\n".join(parts) + "\n"


def _code_list(codes: tuple[str, ...]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _source(fact: Fact) -> str:
    return f"{fact.source}, {fact.seen}"


def _toml(value: object) -> str:
    """Return a capability as it is written in `caps`."""
    if isinstance(value, bytes):
        value = value.decode()
    # A space that a line break would take the place of is escaped.
    return json.dumps(value, ensure_ascii=False).replace('" "', r'"\u0020"')


def readme_page() -> str:
    """Return the README with the published results of the benchmark, if there are some."""
    readme = (ROOT / "README.md").read_text("utf-8")
    results = published()
    return _filled(readme, "peers", readme_part(results)) if results else readme


def _filled(page: str, name: str, text: str) -> str:
    """Return a page with what is between two of its marks replaced."""
    found, count = re.subn(
        rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)",
        lambda match: f"{match[1]}\n{text}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )
    assert count == 1, f"the page has no place for {name}"
    return found


def _metric_name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def _advice(surface: Surface) -> str:
    return {None: "", True: "true", False: "false"}[surface.should_retry]


def _settings_in(table: types.StructType, path: str, documented: dict[type, str]) -> Iterator[str]:
    for field in table.fields:
        name = f"{path}{field.encode_name}"
        text, unit, kind = _described(field)
        yield f"### `{name}`\n"
        yield _wrapped(text) + "\n"
        inner = next(_tables_in(kind), None)
        known = documented.get(inner.cls) if inner else None
        facts = [_noun(kind, known), f"Unit: {unit}" if unit else "", _default(field)]
        yield _wrapped(f"- {'. '.join(filter(None, facts))}.", indent="  ") + "\n"
        if inner and known is None:
            documented[inner.cls] = name
            yield from _settings_in(inner, f"{name}.", documented)


def _described(field: types.Field) -> tuple[str, str, types.Type]:
    """Return a setting's description, its unit and its type without `| None`."""
    text, unit, kind = "", "", field.type
    while isinstance(kind, types.Metadata | types.UnionType):
        if isinstance(kind, types.UnionType):
            kind = next(each for each in kind.types if not isinstance(each, types.NoneType))
            continue
        text = text or str((kind.extra_json_schema or {}).get("description", ""))
        unit = unit or str((kind.extra or {}).get("unit", ""))
        if (kind.extra or {}).get("allowed"):
            break
        kind = kind.type
    assert text, f"{field.name} has no description"
    suffix = re.search(r"_(bytes_per_s|s|ms|bytes|days)\Z", field.encode_name)
    return text, unit or (UNITS[suffix[1]] if suffix else ""), kind


def _tables_in(kind: types.Type) -> Iterator[types.StructType]:
    """Yield the struct behind an optional table or a list of tables."""
    match kind:
        case types.StructType():
            yield kind
        case types.ListType(item_type=inner) | types.Metadata(type=inner):
            yield from _tables_in(inner)
        case types.UnionType(types=inners):
            for inner in inners:
                yield from _tables_in(inner)


def _noun(kind: types.Type, known: str | None) -> str:
    """Return what a setting takes: its type and range, or where the same table is documented."""
    if known:
        return f"Table with the settings of `{known}`"
    match kind:
        case types.Metadata():
            allowed = str((kind.extra or {}).get("allowed", ""))
            text = re.sub(r'"[^"]*"|\. _.*', r"`\g<0>`", allowed)
            text = re.sub(r"- or _(?= like)", "`-` or `_`", text)
            return text[0].upper() + text[1:]
        case types.BoolType():
            return "Boolean"
        case types.IntType():
            return f"Integer from {kind.ge} to {kind.le}"
        case types.FloatType(gt=None):
            return f"Number from {kind.ge:.10g} to {kind.le:.10g}"
        case types.FloatType():
            return f"Number above {kind.gt:.10g}, at most {kind.le:.10g}"
        case types.LiteralType():
            return "One of " + ", ".join(f"`{json.dumps(word)}`" for word in kind.values)
        case types.ListType(item_type=types.StructType()):
            return "List of tables"
        case types.ListType(item_type=types.LiteralType() as item):
            return "List of " + ", ".join(f"`{json.dumps(word)}`" for word in item.values)
        case types.ListType():
            return "List of strings"
        case types.DictType() | types.StructType():
            return "Table"
        case _:
            return "String"


def _default(field: types.Field) -> str:
    if field.required:
        return "Required"
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    if default is None:
        return "Not set by default"
    if isinstance(default, msgspec.Struct):
        default = {}
    return f"Default: `{json.dumps(default)}`"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
