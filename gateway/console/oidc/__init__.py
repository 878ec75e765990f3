"""Signing in with an OpenID provider: authorization code flow with PKCE."""
