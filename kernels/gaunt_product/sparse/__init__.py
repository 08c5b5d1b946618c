"""The Triton kernels of low degree, whose coefficients are constants of the code."""
