"""Reads and transforms responses in transit: usage meters, filters and the first-event gate."""
