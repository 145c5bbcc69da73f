"""Tests of the service, which speak HTTP to it."""

import os

# Before anything of `blog_api` is imported: a developer's own settings must not decide a test.
for name in [name for name in os.environ if name.startswith("BLOG_")]:
    del os.environ[name]
