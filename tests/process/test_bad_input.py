"""Any bad input gets an error in the client's dialect that says what is wrong; nothing breaks."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocols.codec.nesting import MOST_LEVELS, TOO_DEEP
from tests.support.bodies import ANTHROPIC, OPENAI, PATHS, WHOLE, chat, message, request
from tests.support.raw_client import Answer, Connection, render
from tests.support.raw_upstream import Slot, whole
from tests.support.service import ANTHROPIC_MODEL, OPENAI_MODEL, DemoProcess, Key, Service

pytestmark = pytest.mark.process

MIB = 1024 * 1024
DIALECTS = pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])


def in_dialect(path: str, answer: Answer) -> dict[str, str]:
    """Return the error of a response, which must have the whole form of the path's dialect."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    body = answer.json
    if path.startswith(ANTHROPIC):
        assert set(body) == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["request-id"]
        assert {"type", "message"} <= set(body["error"]) <= {"type", "message", "details"}
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, str] = body["error"]
    assert error["message"]
    return error


BAD_BODIES = {
    "empty": b"",
    "blank": b"  \r\n",
    "not json": b"model=x",
    "half": b'{"model": "deepseek-v4-flash", "messages": [',
    "array": b"[]",
    "null": b"null",
    "string": b'"hello"',
    "two values": b'{"model":"deepseek-v4-flash","messages":[]} {}',
    "trailing comma": b'{"model":"deepseek-v4-flash",}',
    "single quotes": b"{'model':'deepseek-v4-flash'}",
    "nan": b'{"model":"deepseek-v4-flash","messages":[],"temperature":NaN}',
    "no model": b'{"messages":[]}',
    "null model": b'{"model":null,"messages":[]}',
    "model is a number": b'{"model":7,"messages":[]}',
    "model is an array": b'{"model":["deepseek-v4-flash"],"messages":[]}',
    "two models": b'{"model":"deepseek-v4-flash","messages":[],"model":"claude-opus-4-8"}',
    "two models by escape": b'{"model":"deepseek-v4-flash","mod\\u0065l":"claude-opus-4-8"}',
    "stream is a string": b'{"model":"deepseek-v4-flash","stream":"yes","messages":[]}',
    "negative limit": b'{"model":"deepseek-v4-flash","max_tokens":-1,"messages":[]}',
    "limit is a string": b'{"model":"deepseek-v4-flash","max_tokens":"9","messages":[]}',
    "invalid utf-8 in the model": b'{"model":"deepseek-v4-flash\xff","messages":[]}',
    "invalid utf-8 in a key": b'{"\xc3(":1,"model":7}',
    "deep nesting": b'{"model":"deepseek-v4-flash","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep open nesting": b'{"model":"deepseek-v4-flash","x":' + b'{"a":' * 100_000,
    "deepest nesting": b'{"model":"deepseek-v4-flash","x":' + b"[" * 1_000_000,
    "deep open nesting in few bytes": b"[" * 990,
    "nul bytes": b"\0" * 100,
    "utf-16": '{"model":"deepseek-v4-flash"}'.encode("utf-16"),
}


@DIALECTS
@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_is_400_in_the_clients_dialect(
    connection: Connection, key: Key, path: str, name: str
) -> None:
    """The error says what is wrong; the connection stays usable."""
    answer = connection.request("POST", path, BAD_BODIES[name], x_api_key=key.raw)

    assert answer.status == 400
    assert in_dialect(path, answer)["type"] == "invalid_request_error"
    assert connection.request("HEAD", "/healthz").status == 200


BAD_MESSAGES = {
    "no messages": {"messages": None},
    "messages is an object": {"messages": {}},
    "message is a string": {"messages": ["hi"]},
    "role is a number": {"messages": [{"role": 1, "content": "x"}]},
    "unknown role": {"messages": [{"role": "alien", "content": "x"}]},
    "content is a number": {"messages": [{"role": "user", "content": 1}]},
    "block without type": {"messages": [{"role": "user", "content": [{}]}]},
    "block is null": {"messages": [{"role": "user", "content": [None]}]},
    "unknown block": {"messages": [{"role": "user", "content": [{"type": "alien"}]}]},
    "tools is an object": {"tools": {}},
    "tool is a number": {"tools": [1]},
    "tool without a name": {"tools": [{"type": "function", "function": {}}]},
    "tool choice is a number": {"tools": [], "tool_choice": 7},
    "stop is a number": {"stop": 7, "stop_sequences": 7},
    "temperature is a string": {"temperature": "hot"},
    "system is a number": {"system": 7},
    "thinking is a number": {"thinking": 7, "reasoning_effort": 7},
    "max_tokens is zero": {"max_tokens": 0},
    "metadata is a string": {"metadata": "x"},
    "result without call": {
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
            {"role": "tool", "tool_call_id": "t", "content": "x"},
        ]
    },
    "image without source": {
        "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "image_url"}]}]
    },
}


@pytest.mark.parametrize(
    ("path", "model"),
    [(OPENAI, ANTHROPIC_MODEL), (ANTHROPIC, OPENAI_MODEL), ("/v1/responses", ANTHROPIC_MODEL)],
)
@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_field_of_a_translated_request_is_never_a_server_error(
    connection: Connection, key: Key, path: str, model: str, name: str
) -> None:
    """A field that cannot be translated is a client error."""
    body = json.loads(message(model)) | {"input": "Hi"} | BAD_MESSAGES[name]

    answer = connection.request("POST", path, json.dumps(body).encode(), x_api_key=key.raw)

    assert answer.status in (200, 400)
    if answer.status == 400:
        in_dialect(path, answer)


@DIALECTS
def test_unknown_path_and_wrong_method_are_told_in_the_paths_dialect(
    connection: Connection, key: Key, path: str
) -> None:
    """404 and 405, with no retry asked for."""
    unknown = connection.request("POST", f"{path}/batches", b"{}", x_api_key=key.raw)
    wrong = connection.request("GET", path, x_api_key=key.raw)

    assert (unknown.status, wrong.status) == (404, 405)
    in_dialect(path, unknown)
    in_dialect(path, wrong)


@DIALECTS
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_encoding": "gzip"}, 415),
        ({"content_encoding": "br"}, 415),
        ({"content_encoding": "zstd"}, 415),
        ({"content_encoding": "identity"}, 200),
    ],
)
def test_body_in_another_form_is_415(
    connection: Connection, key: Key, path: str, headers: dict[str, str], status: int
) -> None:
    """Compressed bodies and other media types are refused, not guessed at."""
    body = request(path, "MiniMax-M3")
    if headers.get("content_encoding") == "gzip":
        body = gzip.compress(body)

    answer = connection.request("POST", path, body, x_api_key=key.raw, **headers)

    assert answer.status == status
    if status == 415:
        in_dialect(path, answer)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("text", [b"\\ud83d", b"\\udc00 x \\ud83d\\ud83d", b"\xff\xfe", b"\\u0000"])
def test_odd_text_passes_through_as_it_is(
    connection: Connection, upstream: Slot, key: Key, wire: str, text: bytes
) -> None:
    """Half emoji, bytes that are no UTF-8 and NULs in a skipped member are the upstream's to judge.

    An agent resends them on every turn: refusing would end its session.
    """
    upstream.plays(whole(WHOLE[wire]))
    body = b'{"max_tokens":9,"messages":[{"role":"user","content":"%b"}],"model":"%b"}'

    answer = connection.request(
        "POST", PATHS[wire], body % (text, upstream.model(wire).encode()), x_api_key=key.raw
    )

    assert answer.status == 200
    assert upstream.exchanges[0].body == body % (text, f"up-{upstream.name}".encode())


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_lone_surrogate_is_translated(
    connection: Connection, upstream: Slot, key: Key, client: str
) -> None:
    """In a translated request half an emoji becomes the replacement character."""
    wire = "anthropic" if client == "openai" else "openai"
    upstream.plays(whole(WHOLE[wire]))
    body = message(upstream.model(wire), "half \ud83d of it")

    answer = connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    assert answer.status == 200
    assert "half \N{REPLACEMENT CHARACTER} of it".encode() in upstream.exchanges[0].body


@pytest.mark.parametrize(("levels", "status"), [(MOST_LEVELS, 200), (MOST_LEVELS + 1, 400)])
def test_nesting_is_accepted_to_a_bound(
    connection: Connection, upstream: Slot, key: Key, levels: int, status: int
) -> None:
    """Schemas nest; the bound does not depend on the version of Python."""
    upstream.plays(whole(WHOLE["openai"]))
    deep = b'{"a":' * (levels - 1) + b"1" + b"}" * (levels - 1)
    body = b'{"model":"%b","x":%b}' % (upstream.model("openai").encode(), deep)

    answer = connection.request("POST", OPENAI, body, x_api_key=key.raw)

    assert answer.status == status
    assert status == 200 or answer.json["error"]["message"].startswith(TOO_DEEP)


@pytest.mark.parametrize("chunked", [False, True])
def test_body_of_32_mib_passes(
    connection: Connection, upstream: Slot, key: Key, chunked: bool
) -> None:
    """A body of 32 MiB is accepted, with and without `content-length`."""
    upstream.plays(whole(WHOLE["openai"]))
    frame = len(chat(upstream.model("openai"), ""))
    body = chat(upstream.model("openai"), "y" * (32 * MIB - frame))
    assert len(body) == 32 * MIB

    if chunked:
        connection.send(render("POST", OPENAI, b"", x_api_key=key.raw, transfer_encoding="chunked"))
        for at in range(0, len(body), MIB):
            piece = body[at : at + MIB]
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
        answer = connection.answer()
    else:
        answer = connection.request("POST", OPENAI, body, x_api_key=key.raw)

    assert answer.status == 200
    assert len(upstream.exchanges[0].body) == 32 * MIB - len(upstream.model("openai")) + len(
        f"up-{upstream.name}"
    )


@DIALECTS
def test_body_of_33_mib_by_its_length_is_413_before_it_is_sent(
    connection: Connection, key: Key, path: str
) -> None:
    """The response comes while nothing of the body was sent."""
    connection.send(render("POST", path, b"", x_api_key=key.raw, content_length=str(33 * MIB)))

    answer = connection.answer()

    assert answer.status == 413
    in_dialect(path, answer)


@DIALECTS
def test_chunked_body_beyond_32_mib_is_413(connection: Connection, key: Key, path: str) -> None:
    """Without a length the bytes are counted, and not kept beyond the limit."""
    connection.send(render("POST", path, b"", x_api_key=key.raw, transfer_encoding="chunked"))
    piece = b"%x\r\n%b\r\n" % (MIB, b" " * MIB)
    try:
        for _ in range(40):
            connection.send(piece)
    except ConnectionError:
        pass  # it has responded and closed before the end: that is the point

    answer = connection.answer()

    assert answer.status == 413
    in_dialect(path, answer)


def test_client_who_leaves_inside_its_body_breaks_nothing(gateway: Service, key: Key) -> None:
    """Disconnecting within the body ends the call, which is logged as `client_gone`."""
    before = gateway.process.log().count('"error_kind":"client_gone"')
    with Connection(gateway.port) as leaving:
        leaving.send(render("POST", OPENAI, b"{", x_api_key=key.raw, content_length="1000"))

    deadline = time.monotonic() + 5
    while gateway.process.log().count('"error_kind":"client_gone"') == before:
        assert time.monotonic() < deadline, "the call is not over"
        time.sleep(0.02)


def test_garbage_instead_of_http_is_refused(gateway: Service) -> None:
    """Neither nonsense nor a TLS greeting gets a 500 or kept open."""
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"\0" * 99,
    ):
        with Connection(gateway.port) as connection:
            connection.send(garbage + b"\r\n\r\n")
            seen = connection.socket.recv(65536)
            assert not seen or seen.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "lines",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: gzip, chunked, gzip\r\n",
    ],
)
def test_ambiguous_framing_smuggles_no_second_request(
    gateway: Service, key: Key, lines: bytes
) -> None:
    """Two lengths never make one request two."""
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nx-api-key: %b\r\n%b\r\n"
    with Connection(gateway.port) as connection:
        connection.send(head % (OPENAI.encode(), key.raw.encode(), lines) + smuggled)
        connection.socket.settimeout(3)
        try:
            first = connection.answer()
        except (EOFError, ConnectionError):
            return

    assert 400 <= first.status < 500


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway of one worker with little patience and room for two calls."""
    service = Service(
        tmp_path_factory.mktemp("strict"),
        demo_upstream,
        workers=1,
        server="body_timeout_s = 0.5\nmax_in_flight = 2",
    )
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def strict_key(strict: Service) -> Key:
    """A key of the strict gateway."""
    return strict.new_key("strict")


@DIALECTS
def test_slow_body_is_408(strict: Service, strict_key: Key, path: str) -> None:
    """A body that is not complete in time is refused with 408."""
    with Connection(strict.port) as connection:
        body = request(path, "MiniMax-M3")
        connection.send(
            render("POST", path, b"", x_api_key=strict_key.raw, content_length=str(len(body)))
        )
        began = time.monotonic()
        connection.socket.settimeout(0.1)
        head = b""
        for at in range(len(body)):
            connection.send(body[at : at + 1])
            try:
                head = connection.socket.recv(65536)
                break
            except TimeoutError:
                assert time.monotonic() < began + 5, "no answer"

    assert head.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 2


@DIALECTS
def test_call_beyond_the_workers_cap_is_refused_at_once(
    strict: Service, strict_key: Key, path: str
) -> None:
    """A call above the limit is refused with 503 or 529 and a `retry-after` of one second."""
    stalled = request(path, "MiniMax-M3", "/stall 1", stream=True)
    # One account may take half of the places.
    other = strict.new_account_key("other")
    held = [Connection(strict.port) for _ in range(2)]
    for connection, key in zip(held, (strict_key, other), strict=True):
        connection.send(render("POST", path, stalled, x_api_key=key.raw))
        connection.read_head()

    with Connection(strict.port) as connection:
        refused = connection.request(
            "POST", path, request(path, "MiniMax-M3"), x_api_key=strict_key.raw
        )
    for connection in held:
        connection.close()

    assert refused.status == (529 if path == ANTHROPIC else 503)
    assert refused.headers["retry-after"] == "1"
    in_dialect(path, refused)
    deadline = time.monotonic() + 5
    while True:
        with Connection(strict.port) as connection:
            again = connection.request(
                "POST", path, request(path, "MiniMax-M3"), x_api_key=strict_key.raw
            )
        if again.status == 200:
            break
        assert time.monotonic() < deadline, "the places were not freed"


def test_no_call_of_this_run_was_an_internal_error(gateway: Service) -> None:
    """The log shows no failure of the gateway's own so far."""
    log = Path(gateway.process.log_path).read_text(errors="replace")

    assert '"error_kind":"internal"' not in log
    assert "Traceback" not in log
