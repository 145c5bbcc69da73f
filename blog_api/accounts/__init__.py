"""Users, sessions and tokens, passwords, JWT, OAuth2 and rate limits."""
