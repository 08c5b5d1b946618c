"""Radial bases and smooth cutoffs: functions of distances."""

from math import factorial, inf, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.steerable._features import check_at_least, check_dtype
from eqlib.symmetry import O, Scalar, Signature

SIGNATURE = Signature(O(3), inputs={"distances": Scalar()}, outputs=Scalar())
SERIES = [(-1) ** k / factorial(2 * k + 1) for k in range(10)]
"""Coefficients of sin(z) / z in powers of z^2: to the rounding of float64 where z < 1."""


def polynomial_cutoff(
    distances: Float[Tensor, "*shape"], cutoff: float, exponent: int = 6
) -> Float[Tensor, "*shape"]:
    r"""Envelope that falls from 1 to 0, twice continuously differentiable.

    .. math::
        u(d) = 1 - \tfrac{(p + 1)(p + 2)}{2} d^p + p (p + 2)\, d^{p + 1}
        - \tfrac{p (p + 1)}{2} d^{p + 2}, \qquad d = r / c < 1

    It is evaluated as :math:`(1 - d)^3 \sum_{k < p} \tfrac{(k + 1)(k + 2)}{2} d^k`, where nothing
    cancels.

    Args:
        distances: of at least 0, in the length unit of ``cutoff``.
        cutoff: from here on the envelope is exactly zero, with its first and second derivatives.
        exponent: p; the larger, the longer the envelope stays near 1.

    Returns:
        Factors from 0 to 1, without unit.

    Raises:
        ValueError: ``cutoff`` or ``exponent`` is not positive.
        TypeError: ``distances`` is not floating-point, or ``exponent`` no integer.

    Source:
        Gasteiger, Gross and Guennemann, Directional Message Passing for Molecular Graphs, ICLR
        2020, which recommends p = 6.
    """
    _check_cutoff(cutoff)
    check_at_least(1, exponent=exponent)
    d = _exact(distances).div(cutoff).clamp(max=1)
    series = torch.full_like(d, exponent * (exponent + 1) / 2)
    for k in range(exponent - 1, 0, -1):
        series = series * d + k * (k + 1) / 2
    return ((1 - d) ** 3 * series).to(distances.dtype)


def cosine_cutoff(distances: Float[Tensor, "*shape"], cutoff: float) -> Float[Tensor, "*shape"]:
    r"""Half a wave from 1 to 0, :math:`\tfrac12 (1 + \cos(\pi r / c))` for :math:`r < c`.

    Args:
        distances: of at least 0, in the length unit of ``cutoff``.
        cutoff: from here on the factor is exactly zero, with its first derivative.

    Returns:
        Factors from 0 to 1, without unit.

    Raises:
        ValueError: ``cutoff`` is not positive.
        TypeError: ``distances`` is not floating-point.

    Note:
        The second derivative jumps at the cutoff: forces are continuous but not smooth there.
        :func:`polynomial_cutoff` has one more derivative.

    Source:
        Behler, Atom-centered symmetry functions for constructing high-dimensional neural network
        potentials, J. Chem. Phys. 134, 2011.
    """
    _check_cutoff(cutoff)
    d = _exact(distances).div(cutoff).clamp(max=1)
    # the square of a sine, since a cosine near pi rounds to something that is not quite -1
    return (pi / 2 * (1 - d)).sin().square().to(distances.dtype)


class BesselBasis(nn.Module):
    r"""Spherical Bessel functions of order 0 that vanish at the cutoff.

    .. math:: e_n(r) = \sqrt{\frac2c}\, \frac{\sin(n \pi r / c)}{r}, \qquad n = 1, \ldots, N

    They are orthonormal on the ball: :math:`\int_0^c e_n e_k\, r^2 dr = \delta_{nk}`. Beyond the
    cutoff they go on; multiply by :func:`polynomial_cutoff` to end them.

    Args:
        count: number N of functions.
        cutoff: c, in the length unit of the distances.
        trainable: learn the frequencies n, which then need not be integers.

    Raises:
        ValueError: ``count`` or ``cutoff`` is not positive.
        TypeError: ``count`` is not an integer.

    Note:
        At r = 0 the value is the limit, and derivatives of every order are right there and nearby.

    Source:
        Gasteiger, Gross and Guennemann, Directional Message Passing for Molecular Graphs, ICLR
        2020.
    """

    signature = SIGNATURE
    frequencies: Tensor

    def __init__(self, count: int, cutoff: float, trainable: bool = False) -> None:
        super().__init__()
        check_at_least(1, count=count)
        _check_cutoff(cutoff)
        self.count, self.cutoff, self.trainable = count, cutoff, trainable
        _register(self, "frequencies", torch.arange(1.0, count + 1))

    def forward(self, distances: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape count"]:
        """The values of all functions, in units of length to the power -3/2.

        Args:
            distances: of at least 0, in the length unit of ``cutoff``.

        Raises:
            TypeError: the distances are not floating-point, or their dtype differs from that of
                learned frequencies, save under autocast.
            ValueError: the distances are on another device.
        """
        _check_distances(self, distances, self.frequencies)
        exact = _exact(distances).unsqueeze(-1)
        frequencies = self.frequencies.to(exact.dtype) * (pi / self.cutoff)
        values = sqrt(2 / self.cutoff) * frequencies * _sinc(exact * frequencies)
        return values.to(distances.dtype)

    def extra_repr(self) -> str:
        """Count, cutoff and option."""
        return f"count={self.count}, cutoff={self.cutoff}, trainable={self.trainable}"


class GaussianBasis(nn.Module):
    r"""Gaussians at even distances from 0 to the cutoff, as wide as they are apart.

    .. math:: e_k(r) = \exp\Bigl(-\frac{(r - k s)^2}{2 s^2}\Bigr), \qquad s = \frac{c}{N - 1},
        \quad k = 0, \ldots, N - 1

    Beyond the cutoff they go on; multiply by :func:`cosine_cutoff` to end them.

    Args:
        count: number N of functions, at least 2.
        cutoff: c, in the length unit of the distances.
        trainable: learn centres and widths, both in units of s.

    Raises:
        ValueError: ``count`` is below 2, or ``cutoff`` not positive.
        TypeError: ``count`` is not an integer.

    Source:
        Schuett et al., SchNet, NeurIPS 2017. Here the width follows the number of functions.
    """

    signature = SIGNATURE
    centres: Tensor
    widths: Tensor

    def __init__(self, count: int, cutoff: float, trainable: bool = False) -> None:
        super().__init__()
        check_at_least(2, count=count)
        _check_cutoff(cutoff)
        self.count, self.cutoff, self.trainable = count, cutoff, trainable
        _register(self, "centres", torch.arange(0.0, count))
        _register(self, "widths", torch.ones(count))

    def forward(self, distances: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape count"]:
        """The values of all functions, from 0 to 1.

        Args:
            distances: of at least 0, in the length unit of ``cutoff``.

        Raises:
            TypeError: the distances are not floating-point, or their dtype differs from that of
                learned centres, save under autocast.
            ValueError: the distances are on another device.
        """
        _check_distances(self, distances, self.centres)
        steps = _exact(distances).unsqueeze(-1) * ((self.count - 1) / self.cutoff)
        offsets = (steps - self.centres.to(steps.dtype)) / self.widths.to(steps.dtype)
        return (-0.5 * offsets.square()).exp().to(distances.dtype)

    def extra_repr(self) -> str:
        """Count, cutoff and option."""
        return f"count={self.count}, cutoff={self.cutoff}, trainable={self.trainable}"


def _register(basis: BesselBasis | GaussianBasis, name: str, values: Tensor) -> None:
    """Give a basis values that are learned, or that are small integers: exact in every dtype."""
    if basis.trainable:
        basis.register_parameter(name, nn.Parameter(values))
    else:
        basis.register_buffer(name, values, persistent=False)


def _check_cutoff(cutoff: float) -> None:
    if not 0 < cutoff < inf:
        raise ValueError(f"cutoff: expected a positive length, got {cutoff}")


def _check_distances(basis: BesselBasis | GaussianBasis, distances: Tensor, values: Tensor) -> None:
    if distances.device != values.device:
        raise ValueError(
            f"distances: on {distances.device}, but the basis is on {values.device}; "
            "move one to the other with .to(device)"
        )
    check_dtype("distances", distances, values if basis.trainable else distances)


def _exact(distances: Tensor) -> Tensor:
    """Distances in float32 at least: half precision loses the phase of fast functions."""
    if not distances.is_floating_point():
        raise TypeError(
            f"distances: expected floating-point numbers, got {distances.dtype}; "
            "convert with .to(torch.get_default_dtype())"
        )
    return distances.to(torch.promote_types(distances.dtype, torch.float32))


def _sinc(z: Tensor) -> Tensor:
    """sin(z) / z with derivatives of every order that are precise near 0 too."""
    small = z.abs() < 1
    square = torch.where(small, z, 0.0).square()
    series = torch.full_like(square, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series = series * square + coefficient
    safe = torch.where(small, 1.0, z)
    return torch.where(small, series, safe.sin() / safe)
