"""From scalars, vectors and tensors to functions of an orientation, and back."""
