"""Benchmarks of the gateway against mock upstreams; see bench/README.md."""
