"""Kept responses: requests that continue them, and responses that become them."""
