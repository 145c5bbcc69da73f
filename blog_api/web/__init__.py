"""HTTP: middleware, cache, conditional requests, pagination, documentation and guide."""
