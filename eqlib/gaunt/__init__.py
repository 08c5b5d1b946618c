"""Tensor products in Gaunt's form: as products of functions on the sphere."""

from eqlib.gaunt.convolution import GauntConvolution, gaunt_convolution
from eqlib.gaunt.many_body import GauntManyBody
from eqlib.gaunt.product import gaunt_product, poisson_product
from eqlib.gaunt.tensor_product import GauntTensorProduct

__all__ = [
    "GauntConvolution",
    "GauntManyBody",
    "GauntTensorProduct",
    "gaunt_convolution",
    "gaunt_product",
    "poisson_product",
]
