"""
The public dialects as pure functions between bytes and values.

Nothing here does I/O or tells the time. A decoder is fed bytes in any split and must give the
same result for each.
"""
