"""Tests of `blog_api.admin`."""
