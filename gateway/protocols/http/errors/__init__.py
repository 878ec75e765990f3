"""Errors on the wire: those of the gateway, and those it reads from upstreams."""
