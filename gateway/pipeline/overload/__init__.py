"""Bounds the load of a worker by the lag of its event loop."""
