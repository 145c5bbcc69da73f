"""A blog as a JSON API."""

import gc

# How many more objects there have to be before Python looks for cycles among them. A request leaves
# none: to look as often as by default would take a twentieth of its time, and a sixth of the start.
gc.set_threshold(10_000, 20, 20)
