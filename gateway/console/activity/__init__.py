"""What an account's calls were and cost: usage, requests, billing and models."""
