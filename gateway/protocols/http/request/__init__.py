"""What the gateway reads, checks and edits in a request that it relays."""
