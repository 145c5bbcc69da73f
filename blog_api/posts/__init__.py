"""Posts, slugs, tags, counters, search, feeds and bookmarks."""
