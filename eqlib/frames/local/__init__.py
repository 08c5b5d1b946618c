"""A frame for each point, from its neighbours."""
