"""From a client's request to the request of one attempt."""
