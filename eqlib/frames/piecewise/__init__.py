"""A frame for each part of a body that moves in parts."""
