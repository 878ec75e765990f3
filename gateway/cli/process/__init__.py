"""The commands that run processes of the gateway, and those to a gateway that runs."""
