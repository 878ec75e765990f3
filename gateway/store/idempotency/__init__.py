"""Responses kept for repeated requests with an Idempotency-Key."""
