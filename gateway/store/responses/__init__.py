"""Responses of the Responses API, kept for the requests that refer to them."""
