"""Tests of `blog_api.text`."""
