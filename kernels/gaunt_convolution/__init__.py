"""Convolutions of node features along edges, with filters of spherical harmonics."""

from eqlib.kernels.gaunt_convolution.op import (
    IMPLEMENTATIONS,
    gaunt_convolution,
    gaunt_convolution_filter,
)

__all__ = ["IMPLEMENTATIONS", "gaunt_convolution", "gaunt_convolution_filter"]
