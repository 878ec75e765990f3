"""The pages about oneself and the account's people: security, settings, team."""
