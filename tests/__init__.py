"""Tests of the service over HTTP."""

import os

# The settings of the developer's environment must not decide a test.
for name in [name for name in os.environ if name.startswith("BLOG_")]:
    del os.environ[name]
