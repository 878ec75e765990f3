"""The OpenAPI documents of the clients' and the operators' API."""
