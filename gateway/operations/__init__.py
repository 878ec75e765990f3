"""
The operator's actions, shared by the command line and the operator's API.

Operations take values and return values. They raise `InvalidValueError` for a wrong value, an error
listed in `refusals.REFUSALS` for a request that cannot be fulfilled, or any other `GatewayError`.
"""
