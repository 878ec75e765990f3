"""Usage events that Redis did not accept: on the local disk, and from there to Redis or SQL."""
