"""The wire of Anthropic Messages: request and response types, and the writer of its events."""
