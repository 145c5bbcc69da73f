"""Import and export of posts."""
