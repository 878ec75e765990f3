"""Redis Cluster: which server has a key, and one pipelined connection to each master."""
