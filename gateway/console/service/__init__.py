"""The operators' pages about the state of the service: now, providers and the system."""
