"""A package outside of musicjax that adds one thing of each kind, as docs/extending.md shows."""
