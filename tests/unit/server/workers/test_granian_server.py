"""What the gateway needs of Granian beyond its public interface."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
import uvloop
from granian._granian import SocketHolder
from granian._granian import __file__ as granian_binary
from granian.server.mp import MPServer, WorkerProcess

from gateway.server.workers import granian_server
from gateway.server.workers.granian_server import WorkerServer, shutdown_signal

OVERRIDDEN = {
    "_init_shared_socket": ["self"],
    "_drop_shared_socket": ["self"],
    "_spawn_workers": ["self", "spawn_target", "target_loader"],
    "_serve_loop": ["self", "spawn_target", "target_loader"],
    "_stop_workers": ["self"],
    "signal_handler_interrupt": ["self", "args", "kwargs"],
}


def parameters(function: object) -> list[str]:
    """Return the names of a function's parameters."""
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_granian_reads_how_to_return_memory() -> None:
    """Its allocator knows the variable that was set before it was loaded."""
    assert "background_thread:true" in os.environ["_RJEM_MALLOC_CONF"]
    assert b"_RJEM_MALLOC_CONF" in Path(granian_binary).read_bytes()


@pytest.mark.parametrize(("name", "takes"), OVERRIDDEN.items())
def test_granian_has_what_is_overridden(name: str, takes: list[str]) -> None:
    """A version without it would run its own loop instead of the pool's."""
    assert parameters(getattr(MPServer, name)) == takes


def test_nothing_else_of_granian_is_overridden() -> None:
    """Each further override is one more thing that an upgrade may break."""
    own = {name for name in vars(WorkerServer) if hasattr(MPServer, name)}

    assert {name for name in own if not name.startswith("__")} == set(OVERRIDDEN)


def test_granian_starts_workers_as_the_pool_does() -> None:
    """`_spawn_worker` uses the holder of `_shd`; its worker can be started, ended and killed."""
    takes = parameters(MPServer._spawn_worker)
    assert takes == ["self", "idx", "target", "callback_loader"]
    assert "self._shd" in inspect.getsource(MPServer._spawn_worker)
    for name in ("start", "is_alive", "terminate", "kill"):
        assert parameters(getattr(WorkerProcess, name)) == ["self"]


def test_only_the_first_signal_reaches_granian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is two signals, of the terminal and of the supervisor; a second `set` would block."""
    sets: list[str] = []
    event = SimpleNamespace(set=lambda: sets.append("set"))
    monkeypatch.setattr(granian_server, "WorkerSignal", lambda: event)
    loop = uvloop.new_event_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert shutdown_signal(loop, on_stop=lambda: sets.append("stop")) is event
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            loop.call_soon(signal.raise_signal, number)
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
    finally:
        loop.close()
        for number, handler in before.items():
            signal.signal(number, handler)

    assert sets == ["stop", "set"]


def test_granian_takes_the_signals_from_the_replaced_function() -> None:
    """`load` runs first in the worker; then Granian imports the name."""
    started = inspect.getsource(MPServer._spawn_asgi_lifespan_worker)
    assert "from granian._signals import set_loop_signals" in started
    assert "shutdown_event = set_loop_signals(loop)" in started
    wrapped = inspect.getsource(WorkerProcess.wrap_target)
    assert wrapped.index("callback_loader()") < wrapped.index("return target(")


def test_holder_does_not_close_the_socket() -> None:
    """The supervisor's socket outlives the holder that workers inherit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        holder = SocketHolder(listener.fileno(), False, 128)  # type: ignore[call-arg]
        assert holder.get_fd() == listener.fileno()
        del holder

        socket.create_connection(listener.getsockname()).close()


def test_renewed_certificate_is_for_the_next_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The configured paths are links that renewal changes; a broken file keeps what was there."""
    authority = trustme.CA()
    for name in ("old", "new"):
        directory = tmp_path / name
        directory.mkdir()
        made = authority.issue_cert("localhost")
        made.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
        made.private_key_pem.write_to_path(str(directory / "key.pem"))
    live = tmp_path / "live"
    live.symlink_to("old")
    server = object.__new__(WorkerServer)
    server._tls = (live / "cert.pem", live / "key.pem")

    server.renew_tls()
    assert server.ssl_ctx[1] == str(tmp_path / "old" / "cert.pem")
    live.unlink()
    live.symlink_to("new")
    server.renew_tls()
    assert server.ssl_ctx[1:3] == tuple(
        str(tmp_path / "new" / name) for name in ("cert.pem", "key.pem")
    )
    with caplog.at_level(logging.ERROR):
        (live / "key.pem").write_text("half a key")
        server.renew_tls()

    assert server.ssl_ctx[0] is True
    assert "certificate_rejected" in caplog.text


def test_workers_are_forks_whatever_python_starts_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.14 would start new interpreters, to which what was loaded cannot be sent."""
    before = multiprocessing.get_start_method()
    server = WorkerServer.__new__(WorkerServer)
    used: list[str] = []
    server.pool = SimpleNamespace(failed=False)  # type: ignore[assignment]
    monkeypatch.setattr(
        WorkerServer, "serve", lambda *_, **__: used.append(multiprocessing.get_start_method())
    )
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert server.run() == 0
    finally:
        multiprocessing.set_start_method(before, force=True)

    assert used == ["fork"]
