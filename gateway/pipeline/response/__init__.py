"""Sends an upstream's response to the client: relay, clocks, metering."""
