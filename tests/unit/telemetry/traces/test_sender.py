"""Records reach the exporter's socket; what it does not take is dropped and counted."""

from pathlib import Path

import msgspec

from gateway.core.model import CallRecord
from gateway.telemetry.traces.exporter import Receiver
from gateway.telemetry.traces.records import DECODER, ENCODER, CallTraceRecord
from gateway.telemetry.traces.sender import TraceSender, socket_path

RECORD = CallRecord(
    request_id="req_1", at_ms=1, key_id="", account_id="", model="m", endpoint="messages",
    client_wire="anthropic",
)  # fmt: skip
TRACE = CallTraceRecord("a" * 32, "b" * 16, 1, 2, RECORD)


def directory(tmp_path: Path) -> Path:
    """A data directory whose path is longer than the address of a socket may be."""
    path = tmp_path / ("long" * 40)
    (path / "run").mkdir(parents=True)
    return path


def test_records_pass_the_socket_unchanged(tmp_path: Path) -> None:
    """Also one that is larger than most, and below a long path."""
    path = socket_path(directory(tmp_path))
    receiver = Receiver(path)
    dropped: list[int] = []
    sender = TraceSender(path, dropped.append)
    large = msgspec.structs.replace(TRACE, state="a" * 60_000)

    for record in (TRACE, large):
        sender.write(record)
    sender.close()

    found = receiver.receive()
    assert found == [TRACE, large]
    assert dropped == []
    receiver.close()


def test_batch_beyond_a_datagram_is_split(tmp_path: Path) -> None:
    """Only a record that is itself too large is dropped."""
    path = socket_path(directory(tmp_path))
    receiver = Receiver(path)
    dropped: list[int] = []
    sender = TraceSender(path, dropped.append)

    for size in (90_000, 90_000):
        sender.write(msgspec.structs.replace(TRACE, state="a" * size))

    assert [len(each.state) for each in receiver.receive() + receiver.receive()] == [90_000] * 2
    sender.close()
    assert dropped == []
    receiver.close()


def test_without_an_exporter_records_are_dropped(tmp_path: Path) -> None:
    """Nothing waits for a process that is away."""
    dropped: list[int] = []
    sender = TraceSender(socket_path(directory(tmp_path)), dropped.append)

    for _ in range(3):
        sender.write(TRACE)
    sender.close()

    assert sum(dropped) == 3


def test_queue_is_bounded(tmp_path: Path) -> None:
    """A full queue drops the newest record at once."""
    dropped: list[int] = []
    sender = TraceSender(socket_path(directory(tmp_path)), dropped.append, limit=0)

    sender.write(TRACE)

    assert dropped == [1]
    sender.close()


def test_receiver_replaces_a_socket_that_was_left_and_passes_over_garbage(tmp_path: Path) -> None:
    """A killed exporter leaves its socket behind; other bytes are no records."""
    path = socket_path(directory(tmp_path))
    Receiver(path).close()
    receiver = Receiver(path)
    sender = TraceSender(path, lambda _: None)

    sender._send(b"\xc1garbage", 1)
    sender._send(ENCODER.encode([TRACE]), 1)
    sender.close()

    assert receiver.receive() == []
    assert receiver.receive() == [TRACE] == DECODER.decode(ENCODER.encode([TRACE]))
    receiver.close()
