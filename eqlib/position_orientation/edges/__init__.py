"""Which nodes send to which, and from where."""
