"""The sections about upstreams: providers, models, and how calls are routed to them."""
