"""Quadrature grids on the sphere, exact up to a stated degree."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics._tables import Table, check_degree, copy, read_only

LEBEDEV_DEGREES = (*range(3, 33, 2), *range(35, 132, 6))


class SphereGrid(NamedTuple):
    r"""Points and weights with :math:`\int f \approx \sum_g w_g f(r_g)` over the unit sphere.

    Attributes:
        points: unit vectors, float64.
        weights: their sum is :math:`4\pi`; some may be negative.
        degree: polynomials up to this degree are integrated exactly.
    """

    points: Float[Tensor, "grid 3"]
    weights: Float[Tensor, "grid"]
    degree: int


def gauss_legendre_grid(degree: int) -> SphereGrid:
    r"""Gauss-Legendre nodes in :math:`\cos\theta` times uniform angles :math:`\varphi`.

    The smallest product grid: :math:`\lceil (D+1)/2 \rceil` rings of :math:`D + 1` points, ring
    after ring from the negative y axis to the positive one.

    Args:
        degree: the degree D up to which polynomials are integrated exactly.

    Raises:
        TypeError: ``degree`` is not a whole number.
        ValueError: ``degree`` is negative.
    """
    check_degree(degree, "degree")
    return _tensors(*rings(degree // 2 + 1, degree + 1), degree)


def lebedev_grid(degree: int) -> SphereGrid:
    """Lebedev's grid with the fewest points: symmetric under the rotations of the cube.

    Args:
        degree: the degree up to which polynomials are integrated exactly, at most 131.

    Returns:
        The grid; its ``degree`` is that of the rule, at least the one asked for. The rules of
        degree 13, 25 and 27 have negative weights.

    Raises:
        TypeError: ``degree`` is not a whole number.
        ValueError: ``degree`` is negative or above 131.

    Source:
        Lebedev and Laikov, A quadrature formula for the sphere of the 131st algebraic order of
        accuracy, Doklady Mathematics 1999; the tables are scipy's.
    """
    check_degree(degree, "degree")
    if degree > LEBEDEV_DEGREES[-1]:
        raise ValueError(
            f"degree is {degree}; expected at most {LEBEDEV_DEGREES[-1]} for a Lebedev grid: "
            "use gauss_legendre_grid"
        )
    return _tensors(*_lebedev(degree))


def sphere_grid(degree: int) -> SphereGrid:
    """The smaller of the Gauss-Legendre and the Lebedev grid that are exact up to ``degree``.

    Args:
        degree: the degree up to which polynomials are integrated exactly.

    Raises:
        TypeError: ``degree`` is not a whole number.
        ValueError: ``degree`` is negative.
    """
    grid = gauss_legendre_grid(degree)
    if degree > LEBEDEV_DEGREES[-1]:
        return grid
    return min(grid, lebedev_grid(degree), key=lambda grid: len(grid.points))


def half_grid(degree: int) -> SphereGrid:
    r"""One point of each antipodal pair of a grid, for functions with :math:`f(-r) = f(r)`.

    Weights are doubled. Polynomials of even degree only need half of the points, and of an even
    function the part of odd degree is zero, so an odd ``degree`` is served by the one below.

    Args:
        degree: the degree up to which even polynomials are integrated exactly.

    Returns:
        The half with fewer points of a Gauss-Legendre grid, :math:`(D/2 + 1)^2` points, and of a
        Lebedev grid; its ``degree`` is even, and for **even** functions only.

    Raises:
        TypeError: ``degree`` is not a whole number.
        ValueError: ``degree`` is negative.
    """
    check_degree(degree, "degree")
    points, weights, exact = half_arrays(degree)
    return _tensors(points, weights, exact)


def tangent_frames(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 2 3"]:
    r"""Two tangent unit vectors at each point: :math:`(e_1, e_2, r)` is right-handed.

    Args:
        points: unit vectors.

    Returns:
        ``e_1`` and ``e_2`` in rows. ``e_1`` is the part of a coordinate axis, of that in which the
        point has the smallest component, so the frames jump somewhere, as on a sphere they must.

    Raises:
        ValueError: the last dimension of ``points`` is not 3.
    """
    if points.shape[-1:] != (3,):
        raise ValueError(f"points has shape {tuple(points.shape)}; expected (..., 3)")
    axis = torch.nn.functional.one_hot(points.abs().argmin(-1), 3).to(points.dtype)
    first = axis - (axis * points).sum(-1, keepdim=True) * points
    first = first / torch.linalg.vector_norm(first, dim=-1, keepdim=True)
    return torch.stack([first, torch.linalg.cross(points, first)], dim=-2)


def _tensors(points: Table, weights: Table, degree: int) -> SphereGrid:
    """Copies, so that no caller can change what is cached."""
    return SphereGrid(copy(points), copy(weights), degree)


@lru_cache(maxsize=64)
def rings(rings: int, angles: int) -> tuple[Table, Table]:
    cosine, weights = np.polynomial.legendre.leggauss(rings)
    sine = np.sqrt(1 - cosine**2)[:, None]
    # Symmetric about zero, so that points opposite to each other are so exactly.
    phi = 2 * np.pi * np.arange(angles) / angles
    points = np.stack(
        np.broadcast_arrays(sine * np.sin(phi), cosine[:, None], sine * np.cos(phi)), axis=-1
    )
    return (
        read_only(points.reshape(-1, 3).copy()),
        read_only(np.repeat(weights * 2 * np.pi / angles, angles)),
    )


@lru_cache(maxsize=64)
def _lebedev(degree: int) -> tuple[Table, Table, int]:
    from scipy.integrate import lebedev_rule

    order = next(order for order in LEBEDEV_DEGREES if order >= degree)
    points, weights = lebedev_rule(order)
    return read_only(np.ascontiguousarray(points.T)), read_only(weights.copy()), order


@lru_cache(maxsize=64)
def half_arrays(degree: int) -> tuple[Table, Table, int]:
    """Points, weights and degree of :func:`half_grid`."""
    even = degree - degree % 2
    points, weights = rings(even // 2 + 1, even + 2)
    # The opposite of a point lies half a turn further, in the mirrored ring.
    keep = np.arange(len(points)) % (even + 2) < even // 2 + 1
    halves = [(points[keep], 2 * weights[keep], even)]
    if even <= LEBEDEV_DEGREES[-1]:
        points, weights, order = _lebedev(even)
        # The sign of the first component that is not zero tells the points of a pair apart.
        first = points[np.arange(len(points)), (np.abs(points) > 1e-9).argmax(axis=1)]
        halves.append((points[first > 0], 2 * weights[first > 0], order - 1))
    half, weights, exact = min(halves, key=lambda half: len(half[0]))
    return read_only(half), read_only(weights), exact
