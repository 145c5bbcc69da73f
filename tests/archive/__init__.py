"""Tests of `blog_api.archive`."""
