"""Tests of `blog_api.core`."""
