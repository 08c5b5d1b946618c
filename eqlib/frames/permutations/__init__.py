"""Frames of the orders of nodes and points."""
