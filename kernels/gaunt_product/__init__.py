"""Gaunt product and Poisson bracket of functions on the sphere: one trilinear operation."""

from eqlib.kernels.gaunt_product.derivatives import product
from eqlib.kernels.gaunt_product.implementations import LARGEST_DEGREE, pick, whynot
from eqlib.kernels.gaunt_product.op import gaunt_product, gaunt_product_gradients

__all__ = [
    "LARGEST_DEGREE",
    "gaunt_product",
    "gaunt_product_gradients",
    "pick",
    "product",
    "whynot",
]
