"""Tests of `blog_api.media`."""
