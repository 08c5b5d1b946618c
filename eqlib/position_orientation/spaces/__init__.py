"""Spaces of positions and orientations, and what stays the same when they move."""
