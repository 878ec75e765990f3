"""The traces of calls: ids, the context for upstreams, and what is exported at the end."""
