"""The direct port: HTTP/1.1 on a worker's own event loop, for clients behind a load balancer."""
