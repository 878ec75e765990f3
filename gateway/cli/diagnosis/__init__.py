"""Commands that show settings and status of a gateway, and diagnose its environment."""
