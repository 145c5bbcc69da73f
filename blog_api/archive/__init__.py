"""Import and export of posts as JSON Lines, Markdown files and WordPress exports."""
