"""The separable convolution on positions and orientations, and the layers around it."""
