"""Spherical harmonics, their coupling coefficients, Wigner matrices, and grids on the sphere."""

from eqlib.harmonics.coupling import gaunt_coefficients, poisson_coefficients
from eqlib.harmonics.grids import (
    SphereGrid,
    gauss_legendre_grid,
    half_grid,
    lebedev_grid,
    sphere_grid,
    tangent_frames,
)
from eqlib.harmonics.layouts import e3nn_irreps, from_e3nn, to_e3nn
from eqlib.harmonics.polar import from_z_polar, to_z_polar
from eqlib.harmonics.spherical import spherical_harmonics, spherical_harmonics_gradient
from eqlib.harmonics.torus import FourierTables, fourier_tables
from eqlib.harmonics.wigner import wigner_d

__all__ = [
    "FourierTables",
    "SphereGrid",
    "e3nn_irreps",
    "fourier_tables",
    "from_e3nn",
    "from_z_polar",
    "gaunt_coefficients",
    "gauss_legendre_grid",
    "half_grid",
    "lebedev_grid",
    "poisson_coefficients",
    "sphere_grid",
    "spherical_harmonics",
    "spherical_harmonics_gradient",
    "tangent_frames",
    "to_e3nn",
    "to_z_polar",
    "wigner_d",
]
