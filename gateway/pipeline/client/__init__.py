"""The client's side of a call: API key, request body, response bytes."""
