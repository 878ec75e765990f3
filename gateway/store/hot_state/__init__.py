"""The state of accounts and running calls in Redis: key names, limit rows and Lua scripts."""
