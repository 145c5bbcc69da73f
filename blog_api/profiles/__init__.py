"""Public profiles, `/users/me` and follows."""
