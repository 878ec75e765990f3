"""The client's side of a call: its key, its request body, the response's bytes."""
