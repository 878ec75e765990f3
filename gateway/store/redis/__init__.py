"""Redis: one pipelined connection for hot commands, addresses, scripts and change notifications."""
