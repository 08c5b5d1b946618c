"""Tensor products in Gaunt's form: as products of functions on the sphere."""

from eqlib.gaunt.product import gaunt_product, poisson_product

__all__ = ["gaunt_product", "poisson_product"]
