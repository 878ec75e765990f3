"""
The public dialects as pure functions between bytes and values.

Nothing here does I/O or reads a clock. A decoder gives the same result however its input is split.
"""
