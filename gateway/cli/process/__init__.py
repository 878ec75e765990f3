"""Commands that run processes of the gateway, and commands that control a running gateway."""
