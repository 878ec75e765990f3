"""Asks a second deployment when the first one is slow; the first content wins."""
