r"""Spherical harmonics, their coupling coefficients, Wigner matrices, and grids on the sphere.

The conventions, which hold in all of eqlib:

* **Basis.** Real harmonics as in e3nn. The polar axis is y:
  :math:`r = (\sin\theta \sin\varphi,\ \cos\theta,\ \sin\theta \cos\varphi)`. The order m < 0 goes
  with :math:`\sin |m|\varphi`, m > 0 with :math:`\cos m\varphi`, without Condon-Shortley sign, so
  that degree 1 is proportional to (x, y, z).
* **Order.** Degree l and order m = -l ... l have the place :math:`l^2 + l + m`.
* **Normalisation.** Orthonormal, which e3nn calls "integral":
  :math:`\int Y_{lm} Y_{l'm'} = \delta_{ll'} \delta_{mm'}` over the unit sphere.
* **Features** are coefficients: x stands for the function :math:`\sum_{lm} x_{lm} Y_{lm}`. Their
  layout is ``(..., (L+1)^2, channels)``, channels last.
* **Rotations** act by :math:`Y_l(R\,r) = D^l(R)\,Y_l(r)` and :math:`x_l \mapsto D^l(R)\,x_l`.
* **Parity.** Degree l has the natural parity :math:`(-1)^l`. Features of both parities
  (``complete=True``) are ``(..., 2, (L+1)^2, channels)``: 0 is the natural parity, 1 the other.
* **Tables** (grids, coefficients, Fourier tables) are float64 on the CPU. They are cached inside,
  and every call returns a copy of its own: compute with them in float64, and convert last.

:func:`to_e3nn` and :func:`to_z_polar` lead to other conventions, and their inverses back.
"""

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
