"""`/app`: the account at a glance, and the guide to the first call."""
