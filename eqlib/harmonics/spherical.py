"""Real spherical harmonics and their gradients, of any degree."""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics._direction import direction
from eqlib.harmonics._recurrence import gradients_by_degree, harmonics_by_degree
from eqlib.harmonics._tables import check_degree, constant


def spherical_harmonics(
    vectors: Float[Tensor, "*batch 3"], lmax: int
) -> Float[Tensor, "*batch coeffs"]:
    r"""Real spherical harmonics :math:`Y_{lm}(v / \lVert v \rVert)` of the degrees 0 to ``lmax``.

    .. math::
        Y_{lm} = N_{l|m|} P_l^{|m|}(\cos\theta) \cdot
        \begin{cases} \sin |m|\varphi & m < 0 \\ 1 & m = 0 \\ \cos m\varphi & m > 0 \end{cases},
        \qquad \int Y_{lm} Y_{l'm'} = \delta_{ll'} \delta_{mm'}

    in e3nn's basis: polar axis y, :math:`\varphi` from z towards x, no Condon-Shortley sign.
    Computed by recurrences in the components of the direction, so that no pole is special.

    Args:
        vectors: of any length, in any unit.
        lmax: the largest degree.

    Returns:
        ``(lmax+1)^2`` values per vector in the order of :math:`l^2 + l + m`, without unit, in the
        dtype of ``vectors``; half and bfloat16 are computed in float32.

    Raises:
        TypeError: ``vectors`` is not floating point, or ``lmax`` not a whole number.
        ValueError: the last dimension of ``vectors`` is not 3, or ``lmax`` is negative.

    Note:
        The zero vector has :math:`Y_{00}`, zeros in all other degrees, and derivatives 0. The
        :math:`k`-th derivative grows like the length to the power :math:`-k`; where it leaves the
        range of the dtype, the first two saturate at its largest number instead of overflowing
        (compiled code overflows).
        A vector with an entry that is not finite gives NaN and leaves the others as they are.

    Source:
        The three-term recurrence of the normalised associated Legendre functions in the degree;
        normalisation as in e3nn with ``normalization="integral"``.
    """
    exact = _checked(vectors, lmax)
    unit, nonzero = direction(exact)
    degrees = harmonics_of_directions(unit, lmax, nonzero.to(unit.dtype))
    return torch.cat([values.movedim(0, -1) for values in degrees], dim=-1).to(vectors.dtype)


def spherical_harmonics_gradient(
    vectors: Float[Tensor, "*batch 3"], lmax: int
) -> Float[Tensor, "*batch coeffs 3"]:
    r"""Tangential gradient of the spherical harmonics on the unit sphere.

    .. math:: \nabla_S Y_{lm}(\hat r) = \lVert r \rVert \, \nabla_r Y_{lm}(r / \lVert r \rVert)

    Args:
        vectors: of any length; only their directions matter.
        lmax: the largest degree.

    Returns:
        For each coefficient a vector orthogonal to the direction, per radian; 0 for the zero
        vector. In the dtype of ``vectors``; half and bfloat16 are computed in float32.

    Raises:
        TypeError: ``vectors`` is not floating point, or ``lmax`` not a whole number.
        ValueError: the last dimension of ``vectors`` is not 3, or ``lmax`` is negative.
    """
    exact = _checked(vectors, lmax)
    with torch.autocast(vectors.device.type, enabled=False):
        unit, nonzero = direction(exact)
        degrees = harmonics_of_directions(unit, lmax)
        matrices = [constant("derivative_table", degree, unit) for degree in range(1, lmax + 1)]
        gradients = torch.cat(gradients_by_degree(unit, degrees, matrices), dim=1)
        gradients = torch.where(nonzero, gradients, 0.0)
    return gradients.movedim((0, 1), (-1, -2)).contiguous().to(vectors.dtype)


def harmonics_of_directions(
    directions: Tensor, lmax: int, square: Tensor | float = 1.0
) -> list[Tensor]:
    """Harmonics, one tensor ``(2l+1, *batch)`` per degree, of unit vectors ``(3, *batch)``.

    Those of the zero vector are 0 from degree 1 on if ``square`` is 0 there.
    """
    # Compilers treat lmax as a variable; the length of a range is a plain number again.
    lmax = len(range(lmax))
    table = constant("recurrence_table", lmax, directions)
    return harmonics_by_degree(directions, square, table, lmax)


def _checked(vectors: Tensor, lmax: int) -> Tensor:
    """Vectors in float32 at least."""
    check_degree(lmax, "lmax")
    if not vectors.is_floating_point():
        raise TypeError(
            f"vectors has dtype {vectors.dtype}; expected floating point: convert it with .float()"
        )
    if vectors.shape[-1:] != (3,):
        raise ValueError(f"vectors has shape {tuple(vectors.shape)}; expected (..., 3)")
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
