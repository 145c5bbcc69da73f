"""Tests of `blog_api.db`."""
