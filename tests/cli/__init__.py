"""Tests of `blog_api.cli`."""
