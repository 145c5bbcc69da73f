"""The commands of `blog-api`."""
