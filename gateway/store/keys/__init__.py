"""API keys: the SQL repository and the caches in Redis and in the worker's memory."""
