"""Tests of the service, which speak HTTP to it."""

import os
from contextlib import chdir
from tempfile import TemporaryDirectory

# A developer's own settings must not decide a test: neither the environment's, nor those of an
# `.env`, which is read where the process stands when the application is imported.
for name in [name for name in os.environ if name.startswith("BLOG_")]:
    del os.environ[name]
with TemporaryDirectory() as nowhere, chdir(nowhere):
    import blog_api.main  # noqa: F401  nobody uses it here: it is imported where no `.env` lies
