"""Tests of `blog_api.profiles`."""
