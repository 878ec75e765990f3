"""HTTP/1.1 to upstreams: head parser, connection and response body."""
