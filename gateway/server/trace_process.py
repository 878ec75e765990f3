"""
The trace exporter: sends the spans of calls to the collector at `telemetry.otlp_endpoint`.

Workers send it one record for each exported call, so that building and sending spans takes none of
their time. Run as `python -m gateway.server.trace_process SETTINGS`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.settings import Settings, read_text, secret
from gateway.settings.telemetry import read_otlp_headers
from gateway.signals import end_with_parent
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces.exporter import Exporter, Receiver
from gateway.telemetry.traces.sender import socket_path


def exporter_of(settings: Settings, metrics: Metrics) -> Exporter:
    """
    Return the exporter that the settings describe.

    Raises:
        ConfigError: The headers cannot be read.
        ValueError: They are malformed.
    """
    telemetry = settings.telemetry
    assert telemetry.otlp_endpoint is not None
    env, file = telemetry.otlp_headers_env, telemetry.otlp_headers_file
    text = secret("telemetry.otlp_headers", env, file, os.environ, read_text)
    resource = {
        "service.name": settings.brand.name,
        "service.version": __version__,
        "service.instance.id": logs.pod_name(),
    }
    return Exporter(
        telemetry.otlp_endpoint,
        read_otlp_headers(text or ""),
        resource,
        lambda result, count: metrics.traces.labels(result).inc(count),
    )


def run(settings: Settings, metrics: Metrics, stop: threading.Event) -> None:
    """Export until `stop` is set."""
    receiver = Receiver(socket_path(settings.server.data_dir))
    exporter = exporter_of(settings, metrics)
    try:
        while not stop.is_set():
            if records := receiver.receive():
                exporter.add(records)
    finally:
        receiver.close()
        exporter.close()


def main(settings_path: str) -> None:
    """Run until SIGTERM or the end of the supervisor."""
    end_with_parent()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor stops this process last
    settings = msgspec.json.decode(Path(settings_path).read_bytes(), type=Settings)
    logs.configure(settings.server.log_format)
    run(settings, Metrics(), stop)


if __name__ == "__main__":
    main(sys.argv[1])
