"""
The Capio gateway: two public dialects in, any provider out, every token accounted for.

Importing this package opens nothing and reads nothing; `gateway.app` builds the objects of a
worker, `gateway.server` the processes around it.
"""

__version__ = "0.1.0"
