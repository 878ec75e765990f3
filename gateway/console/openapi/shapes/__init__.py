"""
The bodies of the APIs as structs, for documents only.

Bodies that are relayed are checked by their upstream: their structs name and describe the known
members, and allow others.
"""
