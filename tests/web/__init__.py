"""Tests of `blog_api.web`."""
