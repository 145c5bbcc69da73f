"""Helpers of the tests: clients, databases, servers and long fixtures."""
