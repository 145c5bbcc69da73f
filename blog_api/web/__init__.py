"""Middleware, response cache, conditional requests, pagination and documentation pages."""
