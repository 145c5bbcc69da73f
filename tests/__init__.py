"""Tests of the service over HTTP."""

import os

import pytest

# The settings of the developer's environment must not affect the tests.
for name in [name for name in os.environ if name.startswith("BLOG_")]:
    del os.environ[name]

# Must be called before a helper is imported.
pytest.register_assert_rewrite("tests.support")
