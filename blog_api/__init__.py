"""A blog as a JSON API."""
