"""The state of accounts and running calls in Redis: key names, rows, snapshots and Lua scripts."""
