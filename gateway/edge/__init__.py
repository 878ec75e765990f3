"""The HTTP interface: routes, the account API, the operator's API, health checks."""
