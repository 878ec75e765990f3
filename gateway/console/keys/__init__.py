"""The pages of API keys, and the overview with the guide to the first call."""
