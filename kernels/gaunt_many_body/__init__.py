"""Polynomials of functions on the sphere, projected back onto spherical harmonics."""

from eqlib.kernels.gaunt_many_body.op import IMPLEMENTATIONS, gaunt_many_body

__all__ = ["IMPLEMENTATIONS", "gaunt_many_body"]
