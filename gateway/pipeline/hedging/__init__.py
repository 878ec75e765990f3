"""Sends a call to a second deployment if the first one is slow; the first content wins."""
