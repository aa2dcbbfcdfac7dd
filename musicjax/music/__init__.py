"""A song, and what is known of it."""
