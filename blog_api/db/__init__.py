"""Base model, engine, sessions, queries, invalidation and migrations."""
