"""The sections `server`, `metrics`, `admin` and `keys`: the service itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import (
    BodyBytes,
    Count,
    EnvName,
    Network,
    Port,
    Seconds,
    Section,
    Text,
)

LogFormat = Literal["auto", "json", "text"]


class Server(Section, frozen=True):
    """The listener, and the limits on clients."""

    host: Annotated[
        Text, Meta(description='Address to listen on; `"0.0.0.0"` for all IPv4 addresses.')
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port to listen on.")] = 8080
    direct_port: Annotated[
        Port | None,
        Meta(
            description="Second TCP port, which the workers serve on their own event loop, at less"
            " CPU per request. HTTP/1.1 without TLS, for a load balancer in front. If not set,"
            " there is none. See [the direct port](operations.md#the-direct-port).",
        ),
    ] = None
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Number of worker processes. Each runs one event loop on one core.",
            extra={"unit": "processes"},
        ),
    ] = 2
    data_dir: Annotated[
        Text,
        Meta(
            description="Directory of the embedded stores and of usage that waits for Redis."
            " Created if missing, readable by its owner only. Relative to the working directory.",
        ),
    ] = "capio-data"
    trusted_proxies: Annotated[
        list[Network],
        Meta(
            description="Addresses and networks of the proxies and load balancers in front of the"
            " gateway. The client's address in records, log lines and throttles is then the"
            " rightmost in `x-forwarded-for` that is not one of theirs. From others the header is"
            " ignored, and the client is the peer of the connection.",
        ),
    ] = []
    log_format: Annotated[
        LogFormat,
        Meta(description="Format of log lines; `auto` is text on a terminal, JSON otherwise."),
    ] = "auto"
    backlog: Annotated[
        int,
        Meta(
            ge=128,
            le=65535,
            description="Length of the kernel's queue of connections that are not yet accepted.",
            extra={"unit": "connections"},
        ),
    ] = 4096
    max_connections: Annotated[
        Count,
        Meta(
            description="Maximum open client connections. Beyond it no connection is accepted.",
            extra={"unit": "connections per worker and port"},
        ),
    ] = 8192
    max_in_flight: Annotated[
        Count,
        Meta(
            description="Maximum concurrent calls. Beyond it a call is rejected with 503 (OpenAI)"
            " or 529 (Anthropic) and `retry-after: 1`.",
            extra={"unit": "calls per worker"},
        ),
    ] = 4096
    max_loop_lag_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Lag of a worker's event loop, in CPU time that its turns take, above which"
            " new calls are rejected with 503 (OpenAI) or 529 (Anthropic) and `retry-after: 1`,"
            " once it has been above for 0.2 s. `0` rejects none.",
        ),
    ] = 10
    max_in_flight_per_account: Annotated[
        Count,
        Meta(
            description="Maximum concurrent calls of one account. Beyond it a call is rejected with"
            " 429 and `retry-after: 1`. Capped at half of `server.max_in_flight`, so that one"
            " account cannot occupy every place.",
            extra={"unit": "calls per account and worker"},
        ),
    ] = 1024
    max_sending_per_account: Annotated[
        Count,
        Meta(
            description="Maximum calls of one account whose body is still incomplete a second after"
            " it was requested. Beyond it a call is rejected with 429 and `retry-after: 1`.",
            extra={"unit": "calls per account and worker"},
        ),
    ] = 64
    max_sending_without_credit: Annotated[
        Count,
        Meta(
            description="Maximum calls of an account without credit whose body is incomplete."
            " Beyond it a call is rejected with 429.",
            extra={"unit": "calls per account and worker"},
        ),
    ] = 8
    max_body_bytes: Annotated[
        BodyBytes,
        Meta(description="Maximum size of a request body. A larger one is rejected with 413."),
    ] = 32 * 1024 * 1024
    max_body_bytes_without_credit: Annotated[
        BodyBytes,
        Meta(
            description="Maximum size of a request body of an account without credit. A larger one"
            " is rejected with 413.",
        ),
    ] = 2 * 1024 * 1024
    max_count_body_bytes: Annotated[
        BodyBytes,
        Meta(
            description="Maximum size of a token count that the gateway estimates itself. A larger"
            " one is rejected with 413. An estimate takes up to 0.3 s of CPU per MiB, in slices"
            " of 2 ms.",
        ),
    ] = 2 * 1024 * 1024
    max_buffered_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024**4,
            description="Maximum size of all request bodies in memory, from their arrival to the"
            " response head. A body over 64 KiB that exceeds it is rejected with 503 (OpenAI) or"
            " 529 (Anthropic) and `retry-after: 1`. A translated request takes about twice its"
            " size.",
            extra={"unit": "bytes per worker"},
        ),
    ] = 512 * 1024 * 1024
    max_buffered_bytes_per_account: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024**4,
            description="Maximum size of one account's request bodies in memory. Beyond it a body"
            " is rejected with 429 and `retry-after: 1`. Must be at least `server.max_body_bytes`.",
            extra={"unit": "bytes per account and worker"},
        ),
    ] = 128 * 1024 * 1024
    header_timeout_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Timeout for the first request head of a connection, which is then closed.",
        ),
    ] = 6.0
    idle_timeout_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Timeout from a response to the end of the connection's next request head."
            " Proxies in front must close idle connections earlier; most do after 60 s.",
        ),
    ] = 75.0
    body_timeout_s: Annotated[
        Seconds,
        Meta(description="Timeout for a whole request body. A slower one is rejected with 408."),
    ] = 60.0
    max_members: Annotated[
        int,
        Meta(
            ge=64,
            le=100_000,
            description="Maximum members at a request body's top level and in each of its option"
            " objects (`metadata`, `tool_choice`, ...). More are rejected with 400.",
            extra={"unit": "members"},
        ),
    ] = 1024
    max_messages: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Maximum elements of `messages` or `input`. More are rejected with 400."
            " Checked where `server.max_values` is.",
            extra={"unit": "elements"},
        ),
    ] = 20_000
    max_tools: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Maximum elements of `tools` or `functions`. More are rejected with 400."
            " Checked where `server.max_values` is.",
            extra={"unit": "elements"},
        ),
    ] = 4096
    max_values: Annotated[
        int,
        Meta(
            ge=1000,
            le=10_000_000,
            description="Maximum JSON members, elements, objects and lists of a request body. More"
            " are rejected with 400. 64 bytes of white space or 16 escapes count as one value."
            " Checked for bodies over 4 MiB, and over 256 KiB where the body is translated or its"
            " tokens are counted.",
            extra={"unit": "JSON values"},
        ),
    ] = 200_000
    min_body_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="Minimum mean rate of a request body, checked from its tenth second on. A"
            " slower one is rejected with 408. `0` disables the check.",
            extra={"unit": "bytes per second"},
        ),
    ] = 4096
    send_stall_s: Annotated[
        Seconds,
        Meta(description="Timeout for a client that reads no byte of its response."),
    ] = 120.0
    stream_keepalive_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="A stream that is silent for this long gets a keep-alive, so that no load"
            " balancer closes it: a comment on the OpenAI wire, a `ping` event on the Anthropic"
            " wire. `0` disables them.",
        ),
    ] = 15.0
    early_head_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="A stream whose upstream has not responded for this long is started with"
            " status 200 and keep-alives, while the call is still attempted. An error is then an"
            " event of the stream. `0` disables it, and so does `server.stream_keepalive_s = 0`.",
        ),
    ] = 45.0
    drain_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Time after SIGTERM in which the port stays open and calls are served,"
            " while `/readyz` is 503 and every response closes its connection. Must be longer than"
            " a load balancer takes to notice. Ctrl-C skips it.",
        ),
    ] = 5.0
    grace_s: Annotated[
        Seconds,
        Meta(
            description="Time that running calls get after that. The rest end with an error."
            " Kubernetes' `terminationGracePeriodSeconds` must be longer than"
            " `server.drain_s` and this together, by 30 s.",
        ),
    ] = 600.0
    ledger_writer: Annotated[
        bool,
        Meta(
            description="Run a ledger writer beside the workers. If false, `capio ledger` must run"
            " elsewhere; usage waits in Redis until it does.",
        ),
    ] = True
    heartbeat_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="A worker whose event loop has not run for this long is killed and"
            " replaced, one worker at a time. `0` disables it.",
        ),
    ] = 10.0
    watch_config: Annotated[
        bool,
        Meta(description="Reload the configuration file when its content changes."),
    ] = True
    tls_cert_file: Annotated[
        Text | None,
        Meta(
            description="Certificate chain in PEM format. With `server.tls_key_file` the gateway"
            " terminates TLS itself, for HTTP/1.1 only.",
        ),
    ] = None
    tls_key_file: Annotated[Text | None, Meta(description="Private key in PEM format.")] = None


class Metrics(Section, frozen=True):
    """The Prometheus endpoint, on a port of its own."""

    host: Annotated[
        Text, Meta(description="Address of `/metrics`. Keep it off the public network.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port. Must differ from `server.port`.")] = 9464


class Admin(Section, frozen=True):
    """The admin API under `/admin`. It exists only if a token is configured."""

    token_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the token, at least 32 visible ASCII"
            " characters. Without `token_env` and `token_file` there is no `/admin`.",
        ),
    ] = None
    token_file: Annotated[Text | None, Meta(description="File that holds the token.")] = None
    allow_forwarded: Annotated[
        bool,
        Meta(
            description="Accept requests that came through a proxy: those with a `forwarded`,"
            " `x-forwarded-for`, `x-forwarded-host`, `x-real-ip` or `via` header. If false, they"
            " get 404.",
        ),
    ] = False
    expose: Annotated[
        bool,
        Meta(
            description="Serve `/admin` also where clients connect, on `server.port` and"
            " `server.direct_port`. If false, it is 404 there and only `console.host` and"
            " `console.port` serve it."
        ),
    ] = True

    @property
    def is_configured(self) -> bool:
        """There is a token, hence an admin API."""
        return self.token_env is not None or self.token_file is not None


class Keys(Section, frozen=True):
    """How long API keys are cached. Revocations reach all workers without waiting for these."""

    near_ttl_s: Annotated[Seconds, Meta(description="Lifetime of a key in a worker's memory.")] = (
        30.0
    )
    near_entries: Annotated[
        Count,
        Meta(
            description="Maximum keys in a worker's memory. Beyond it the least recently used are"
            " evicted.",
            extra={"unit": "keys per worker"},
        ),
    ] = 50_000
    redis_ttl_s: Annotated[
        float, Meta(ge=1, le=86_400, description="Lifetime of a key in Redis.")
    ] = 3600.0
    negative_ttl_s: Annotated[
        float,
        Meta(ge=1, le=86_400, description="Lifetime of the information that a key is unknown."),
    ] = 30.0
    negative_entries: Annotated[
        Count,
        Meta(
            description="Maximum unknown keys in a worker's memory.",
            extra={"unit": "keys per worker"},
        ),
    ] = 20_000
