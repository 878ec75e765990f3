"""Users, their memberships in accounts, sessions, links, and ways to sign in."""
