"""The section `telemetry`: trace contexts, and the collector that gets spans."""

from gateway.settings.telemetry.section import Telemetry, read_otlp_headers

__all__ = ["Telemetry", "read_otlp_headers"]
