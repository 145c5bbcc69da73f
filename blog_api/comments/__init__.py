"""Comments and threads."""
