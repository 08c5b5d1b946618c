"""Which group elements are the frames of a cloud."""
