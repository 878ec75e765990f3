"""Parts of the gateway measured alone: Redis, SQL, routing, connections; see bench/README.md."""
