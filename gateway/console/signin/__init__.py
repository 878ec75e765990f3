"""How people sign in: passwords, authenticators, links, and limits on attempts."""
