"""Rules between settings: names, wires, addresses, headers and capabilities must agree."""

from collections.abc import Mapping

import pytest

from gateway.settings import ConfigError, Settings, parse, split_http_url

VALID = """
[[providers]]
name = "deepseek"
openai = { base_url = "https://api.deepseek.com/v1" }
anthropic = { base_url = "https://api.deepseek.com/anthropic" }

[[providers]]
name = "openai"
openai = { base_url = "https://api.openai.com/v1" }

[[models]]
name = "flash"
aliases = ["fast"]
deployments = [{ provider = "deepseek", model = "chat" }]

[[models]]
name = "gpt"
deployments = [{ provider = "openai", model = "gpt-5.5" }]
"""


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text)
    return raised.value.errors


def with_base_url(url: str, more: str = "") -> str:
    return VALID.replace('base_url = "https://api.openai.com/v1"', f'base_url = "{url}"{more}')


def test_parse_agreeing_settings_have_no_error() -> None:
    """The text that the other tests change is valid."""
    assert isinstance(parse(VALID), Settings)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            'provider = "deepseek"',
            'provider = "deepsek"',
            'models[0].deployments[0].provider: "deepsek" is not a provider; known: deepseek, '
            "openai (did you mean deepseek?)",
        ),
        (
            '[[models]]\nname = "flash"',
            '[console.mail]\nhost = "mail.test"\nsender = "a@mail.test"\nsecurity = "none"\n'
            '[[models]]\nname = "flash"',
            'console.mail.security: "none" is allowed for a server on this machine only; use '
            '"starttls" or "tls"',
        ),
        (
            '[[models]]\nname = "flash"',
            '[console.mail]\nhost = "mail.test"\nsender = "a@mail.test"\nusername = "a"\n'
            '[[models]]\nname = "flash"',
            "console.mail.username: needs password_env or password_file, and they need it",
        ),
        (
            '[[models]]\nname = "flash"',
            '[console.oidc]\nissuer = "http://id.example.com"\nclient_id = "x"\n'
            '[[models]]\nname = "flash"',
            'console.oidc.issuer: "http://id.example.com" is not encrypted; use https://',
        ),
        (
            '[[models]]\nname = "flash"',
            '[console.oidc]\nissuer = "https://id.example.com?x"\nclient_id = "x"\n'
            '[[models]]\nname = "flash"',
            'console.oidc.issuer: "https://id.example.com?***" has a query or a fragment; use '
            "scheme, host, port and path only",
        ),
        (
            '[[models]]\nname = "flash"',
            '[console.oidc]\nissuer = "https://id.example.com"\nclient_id = "x"\n'
            'client_secret_env = "A"\nclient_secret_file = "b"\n[[models]]\nname = "flash"',
            'console.oidc.client_secret_file: "b" cannot be combined with client_secret_env',
        ),
        (
            '[[models]]\nname = "flash"',
            '[money]\nrenew_s = 11\nlease_s = 30\n[[models]]\nname = "flash"',
            "money.renew_s: 11.0 must be at most a third of money.lease_s (30.0)",
        ),
        (
            '[[models]]\nname = "flash"',
            '[server]\nmax_body_bytes = 200000000\n[[models]]\nname = "flash"',
            "server.max_buffered_bytes_per_account: 134217728 must be at least "
            "server.max_body_bytes (200000000)",
        ),
        (
            '[[models]]\nname = "flash"',
            '[server]\nmax_buffered_bytes = 100000000\n[[models]]\nname = "flash"',
            "server.max_buffered_bytes: 100000000 must be at least "
            "server.max_buffered_bytes_per_account (134217728)",
        ),
        (
            'name = "gpt"',
            'name = "fast"',
            'models[1].name: "fast" is already used by models[0].aliases[0]',
        ),
        (
            'aliases = ["fast"]',
            'aliases = ["fast", "flash"]',
            'models[0].aliases[1]: "flash" is already used by models[0].name',
        ),
        (
            'name = "gpt"',
            'name = "capio/gpt"',
            'models[1].name: "capio/gpt" starts with brand.model_prefix, which is removed before '
            "the lookup; remove it here",
        ),
        (
            'name = "gpt"',
            'name = "gpt"\ncontext = 1000\nmax_output = 1001',
            "models[1].max_output: 1001 exceeds the context (1000)",
        ),
        (
            'name = "gpt"',
            'name = "gpt"\nhedge = {}',
            "models[1].hedge: the model has one deployment; add another or remove hedge",
        ),
        (
            'model = "gpt-5.5" }',
            'model = "gpt-5.5" }, { provider = "openai", model = "gpt-5.5" }',
            'models[1].deployments[1]: "openai/gpt-5.5" is already used by '
            "models[1].deployments[0]",
        ),
        (
            'model = "gpt-5.5"',
            'model = "gpt-5.5", wires = ["openai", "anthropic"]',
            'models[1].deployments[0].wires[1]: "anthropic" is not a wire of provider openai; '
            "it has openai",
        ),
        (
            'model = "gpt-5.5"',
            'model = "gpt-5.5", wires = ["openai", "openai"]',
            'models[1].deployments[0].wires[1]: "openai" is already used by '
            "models[1].deployments[0].wires[0]",
        ),
        (
            'openai = { base_url = "https://api.openai.com/v1" }',
            "",
            "providers[1]: no wire; add an openai or anthropic table with a base_url",
        ),
        (
            'name = "openai"\n',
            'name = "openai"\napi_key_env = "A"\napi_key_file = "/run/a"\n',
            'providers[1].api_key_file: "/run/a" cannot be combined with api_key_env',
        ),
        (
            'name = "openai"\n',
            'name = "openai"\napi_key_env = "A"\napi_keys = [{ env = "B" }]\n',
            "providers[1].api_keys: cannot be combined with api_key_env or api_key_file; "
            "list all here",
        ),
        (
            'name = "openai"\n',
            'name = "openai"\napi_keys = [{ env = "A", file = "/b" }]\n',
            "providers[1].api_keys[0]: give either env or file",
        ),
        (
            'name = "openai"\n',
            'name = "openai"\nproxy = "http://proxy:3128"\n',
            'providers[1].proxy: "http://proxy:3128" requires transport = "httpx2"',
        ),
        (
            '/anthropic" }',
            '/anthropic/v1/" }',
            'providers[0].anthropic.base_url: "https://api.deepseek.com/anthropic/v1/" ends with '
            "/v1; remove it, because /v1/messages is appended",
        ),
        (
            'api.openai.com/v1"',
            'api.openai.com/v1", count_tokens = false',
            "providers[1].openai.count_tokens: applies to the anthropic wire only; remove it",
        ),
        (
            "[[models]]",
            '[server]\ntls_cert_file = "/c"\n[[models]]',
            "server.tls_key_file: missing; required with server.tls_cert_file",
        ),
        (
            "[[models]]",
            '[server]\ntls_key_file = "/c"\n[[models]]',
            "server.tls_cert_file: missing; required with server.tls_key_file",
        ),
        (
            "[[models]]",
            "[metrics]\nport = 8080\n[[models]]",
            "metrics.port: 8080 is already used by server.port",
        ),
        *(
            (
                "[[models]]",
                f"[server]\ndirect_port = {port}\n[[models]]",
                f"server.direct_port: {port} is already used by {section}.port",
            )
            for section, port in (("server", 8080), ("metrics", 9464), ("console", 8079))
        ),
        (
            "[[models]]",
            '[server]\ndirect_port = 8081\ntls_cert_file = "/c"\ntls_key_file = "/k"\n[[models]]',
            "server.direct_port: 8081 would serve in clear text what server.tls_cert_file "
            "encrypts; remove one of them",
        ),
        (
            "[[models]]",
            '[sql]\nurl = "mysql://db/x"\n[[models]]',
            'sql.url: "mysql://db/x" is neither "embedded" nor one of postgresql://, postgres://',
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis://:pw@host/0"\n[[models]]',
            'redis.url: "redis://***@host/0" contains a password; '
            "use password_env or password_file",
        ),
        (
            "[[models]]",
            '[redis]\npassword_env = "PW"\n[[models]]',
            'redis.url: "embedded" takes no password; remove it, or give the URL of a server',
        ),
        (
            "[[models]]",
            "[sql]\ntransaction_pooler = true\n[[models]]",
            "sql.transaction_pooler: the embedded database has no pooler; remove this setting",
        ),
        (
            "[[models]]",
            '[server]\nledger_writer = false\n[redis]\nurl = "redis://host"\n[[models]]',
            "server.ledger_writer: false requires external Redis and SQL servers; "
            "set redis.url and sql.url, or remove it",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+sentinel://:pw@a,b/main"\n[[models]]',
            'redis.url: "redis+sentinel://***@a,b/main" contains a password; '
            "use password_env or password_file",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+sentinel://a:26379,b"\n[[models]]',
            'redis.url: "redis+sentinel://a:26379,b" has no service name; '
            "use redis+sentinel://host1:26379,host2:26379/service",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+sentinel://a,,b/main"\n[[models]]',
            'redis.url: "redis+sentinel://a,,b/main" has a Sentinel without a host name',
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+sentinel://a/main/one"\n[[models]]',
            'redis.url: "redis+sentinel://a/main/one" has a database that is not a number',
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis://a,b"\n[[models]]',
            'redis.url: "redis://a,b" names several hosts; use '
            "redis+sentinel://host1:26379,host2:26379/service or "
            "redis+cluster://host1:6379,host2:6379",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+cluster://:pw@a,b"\n[[models]]',
            'redis.url: "redis+cluster://***@a,b" contains a password; '
            "use password_env or password_file",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+cluster://a,b/1"\n[[models]]',
            'redis.url: "redis+cluster://a,b/1" names a database; a cluster has only database 0',
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis+cluster://a,,b"\n[[models]]',
            'redis.url: "redis+cluster://a,,b" has a server without a host name; '
            "use redis+cluster://host1:6379,host2:6379",
        ),
        (
            "[[models]]",
            '[redis]\nurl = "redis://a"\nsentinel_password_env = "S"\n[[models]]',
            "redis.sentinel_password_env: redis.url has no Sentinels; "
            "remove it, or use redis+sentinel://",
        ),
    ],
)
def test_parse_disagreement_names_both_sides(old: str, new: str, error: str) -> None:
    """Each rule reports where it is violated, the value, and the remedy."""
    assert errors_of(VALID.replace(old, new, 1)) == [error]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://api.openai.com/v1", "would send the credential in clear text; use https://"),
        ("ftp://api.openai.com/v1", "is not an absolute http:// or https:// URL"),
        ("api.openai.com/v1", "is not an absolute http:// or https:// URL"),
        ("https://me:pw@api.openai.com/v1", "has a user part; configure the credential separately"),
        ("https://api.openai.com/v1?key=1", "has a query or a fragment"),
        ("https://api.openai.com/v1#", "has a query or a fragment"),
        ("https://api.openai.com/v1/chat/completions", "names an endpoint"),
        ("https://api.openai.com:99999/v1", "is not a URL: its host or port cannot be read"),
        ("https://api.openai.com:0/v1", "has port 0"),
        ("https:///v1", "has no valid host name"),
        ("https://a..b/v1", "has no valid host name"),
        ("https://1.2.3/v1", "has no valid host name"),
        ("https://api.openai.com/v 1", "is not a URL: it has spaces"),
        ("https://api.openai.com\\\\@evil/v1", "is not a URL: it has spaces"),
        ("http://169.254.169.254/latest", "has a link-local, multicast or unspecified address"),
        ("http://[::ffff:169.254.169.254]/", "has a link-local, multicast or unspecified address"),
        ("http://0.0.0.0/v1", "has a link-local, multicast or unspecified address"),
    ],
)
def test_parse_base_url_that_cannot_be_used_is_refused(url: str, reason: str) -> None:
    """A base URL is absolute, without secrets in it, and safe to send a credential to."""
    (line,) = errors_of(with_base_url(url))

    assert line.startswith("providers[1].openai.base_url: ")
    assert reason in line
    assert "pw" not in line


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://10.0.0.7/v1",
        "http://vllm:8000/v1",
        "http://vllm.models.svc.cluster.local/v1",
        "https://api.openai.com/v1/",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ],
)
def test_parse_base_url_near_or_encrypted_is_taken(url: str) -> None:
    """Plain http is for loopback and private hosts only."""
    assert parse(with_base_url(url)).providers[1].openai is not None


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "localhost"])
def test_mail_server_of_this_machine_needs_no_encryption(host: str) -> None:
    """Whichever way the machine is named."""
    mail = f'[console.mail]\nhost = "{host}"\nsender = "a@mail.test"\nsecurity = "none"\n'
    text = VALID.replace("[[models]]", f"{mail}[[models]]", 1)

    assert parse(text).console.mail is not None


def test_parse_plain_http_to_public_host_needs_a_word() -> None:
    """`allow_http` permits plain HTTP to a public host."""
    assert parse(with_base_url("http://api.openai.com/v1", ", allow_http = true")).providers


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://API.x.com/", (True, "api.x.com", 443, "", "api.x.com")),
        ("https://x.com:8443/a/b/", (True, "x.com", 8443, "/a/b", "x.com:8443")),
        ("http://[::1]:80/v1", (False, "::1", 80, "/v1", "[::1]")),
        ("http://x.com:443", (False, "x.com", 443, "", "x.com:443")),
    ],
)
def test_split_http_url_gives_parts(url: str, parts: tuple[object, ...]) -> None:
    """Host in lower case, default ports filled in, no slash at the path's end."""
    split = split_http_url(url)

    assert (*split, split.authority) == parts


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (
            'authorization = "Bearer k3y"',
            "authorization: the value (not shown, it may be a secret)",
        ),
        ('Host = "x"', "Host: set by the gateway itself; remove it"),
        ('"a b" = "x"', '"a b": "a b" is not a header name'),
        (
            'x-a = "k3y\\r\\nx-b: 1"',
            "x-a: the value (not shown, it may be a secret) is not a header",
        ),
        ('x-a = "1"\nX-A = "2"', 'X-A: "x-a" is already used by providers[1].headers.x-a'),
        ("x-a = 1", "x-a: 1 is not a string in quotes"),
    ],
)
def test_parse_header_that_must_not_be_set_is_refused(header: str, error: str) -> None:
    """Extra headers are no place for secrets, line ends, or what the gateway sets itself."""
    text = VALID.replace("\n[[models]]", f"\n[providers.headers]\n{header}\n[[models]]", 1)

    (line,) = errors_of(text)

    assert line.startswith(f"providers[1].headers.{error}")
    assert "k3y" not in line


def test_parse_capability_check_reports_each_override() -> None:
    """Overrides of capabilities are judged one by one, with the provider's dialect."""
    seen: list[tuple[str, Mapping[str, object]]] = []

    def check(dialect: str, caps: Mapping[str, object]) -> None:
        seen.append((dialect, caps))
        if "images" in caps:
            raise ValueError("expected true or false")

    text = VALID.replace(
        'name = "openai"', 'name = "openai"\ndialect = "vllm"\ncaps = { images = 3, top_k = true }'
    ).replace('model = "gpt-5.5"', 'model = "gpt-5.5", caps = { images = "x" }')

    with pytest.raises(ConfigError) as raised:
        parse(text, check)

    assert raised.value.errors == [
        "providers[1].caps.images: 3: expected true or false",
        'models[1].deployments[0].caps.images: "x": expected true or false',
    ]
    assert seen == [
        ("vllm", {"images": 3}),
        ("vllm", {"top_k": True}),
        ("vllm", {"images": "x"}),
    ]


@pytest.mark.parametrize("where", ["prices", "deployments[0].cost"])
def test_parse_tier_that_no_upstream_reports_is_refused(where: str) -> None:
    """A name with a capital would never match, and its factor never count."""
    tiers = '{ tiers = { Priority = "2.0", priority = "2.0" } }'
    text = VALID.replace("[[models]]", f"[[models]]\nprices = {tiers}", 1)
    if where != "prices":  # the cost of the first deployment
        text = VALID.replace('model = "chat"', f'model = "chat", cost = {tiers}', 1)

    assert errors_of(text) == [
        f'models[0].{where}.tiers: "Priority" is not the name of a tier; '
        "use at most 32 lower-case letters, digits and _ -"
    ]


@pytest.mark.parametrize("section", ["server", "console"])
def test_parse_trusted_proxies_are_networks(section: str) -> None:
    """A network has no bits outside of its mask, and an IPv6 one is accepted."""
    networks = ["10.0.0.0/8", "2001:db8::/32", "10.0.0.1/8", "1.2.3"]

    assert errors_of(f"[{section}]\ntrusted_proxies = {networks}\n{VALID}") == [
        f'{section}.trusted_proxies[{index}]: "{networks[index]}" is not an IP address or a '
        "network; use a form like 10.0.0.0/8, without bits outside of the mask"
        for index in (2, 3)
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('otlp_endpoint = "http://collector:4318"', []),
        (
            'otlp_endpoint = "https://otlp.example.com"\notlp_headers_env = "OTLP_HEADERS"',
            [],
        ),
        (
            'otlp_endpoint = "http://otlp.example.com"\notlp_headers_env = "OTLP_HEADERS"',
            [
                'telemetry.otlp_endpoint: "http://otlp.example.com" would send the headers in '
                "clear text; use https://, or a loopback or private host"
            ],
        ),
        (
            'otlp_endpoint = "http://collector:4318/v1/traces"',
            [
                'telemetry.otlp_endpoint: "http://collector:4318/v1/traces": remove /v1/traces, '
                "which is appended"
            ],
        ),
        (
            'otlp_headers_file = "headers"',
            [
                "telemetry.otlp_endpoint: missing; required with otlp_headers_env or "
                "otlp_headers_file"
            ],
        ),
        (
            'otlp_endpoint = "https://a.b"\notlp_headers_env = "A"\notlp_headers_file = "b"',
            ['telemetry.otlp_headers_file: "b" cannot be combined with otlp_headers_env'],
        ),
    ],
)
def test_parse_collector_of_traces(lines: str, expected: list[str]) -> None:
    """Credentials for it are not sent in clear text over public networks."""
    text = f"[telemetry]\n{lines}\n{VALID}"

    assert (errors_of(text) if expected else []) == expected
    if not expected:
        assert parse(text).telemetry.otlp_endpoint is not None
