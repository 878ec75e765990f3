"""From an upstream's response to the client's: relay, clocks, metering."""
