"""Tests of `blog_api.posts`."""
