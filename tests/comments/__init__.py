"""Tests of `blog_api.comments`."""
