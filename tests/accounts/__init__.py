"""Tests of `blog_api.accounts`."""
