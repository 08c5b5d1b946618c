r"""Products on the torus of the angles, by the fast Fourier transform.

A function of degree L is a Fourier series in both angles with frequencies up to L,

.. math:: f = \sum_m t_m(\varphi) \sum_u \Bigl(\sum_l A_{|m|lu} x_{lm}\Bigr) s_{mu}(\theta),

with :math:`t_m` the sine, 1 or the cosine of :math:`|m| \varphi` for negative, zero and positive m,
and :math:`s_{mu}` the cosine of :math:`u \theta` for even and its sine for odd m: the sparsity
v = ±m. Series are multiplied as functions on a grid that is just large enough, and
:math:`z_{lm} = \sum_u Z_{|m|lu} F_{mu}`. The bracket times :math:`\sin\theta` is
:math:`f_\theta h_\varphi - f_\varphi h_\theta`, a series with sine and cosine of :math:`\theta`
exchanged, and the integral over the sphere needs no other factor.

Tables: [A (L+1, L+1, L+1), Z (L+1, L+1, 2L+1)], indexed by \|m\|, l, u; L is the largest degree.

Source:
    Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis via
    Gaunt Tensor Products, ICLR 2024; here in real form, and with the bracket.
"""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient, lmax_of

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    """Return :math:`z = w_3 P(w_1 x, w_2 y)`."""
    series, projection = tables
    w1, w2, w3 = weights
    lmax1, lmax2 = lmax_of(x.shape[1]), lmax_of(y.shape[1])
    degree = lmax1 + lmax2
    lmax = min(lmax_out, degree)
    # The smallest sizes: all frequencies of theta contribute, those of phi above lmax may alias.
    size = (2 * degree + 1, max(degree + lmax, 2 * lmax1, 2 * lmax2) + 1)
    f = _spectrum(_weighted(x, w1, series), series, size)
    g = _spectrum(_weighted(y, w2, series), series, size)
    if odd:
        (f1, f2), (g1, g2) = _slopes(f, size), _slopes(g, size)
        values = f1 * g2 - f2 * g1
    else:
        values = _values(f, size) * _values(g, size)
    spectrum = torch.fft.rfft2(values, dim=(1, 2), norm="forward")
    z = series.new_zeros(len(x), (lmax_out + 1) ** 2, x.shape[2])
    for order in range(lmax + 1):
        table = projection[order, order : lmax + 1, : degree + 1]
        waves = _waves(spectrum[:, :, order], degree, (order % 2 == 0) != odd)
        cosine, sine = _columns(order, lmax, z.device)
        z[:, cosine] = table @ waves.real * (1 if order == 0 else 2)
        if order > 0:
            z[:, sine] = table @ waves.imag * -2
    return _weighted(z, w3, series).to(x.dtype)


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and y: the product with operands permuted cyclically."""
    w1, w2, w3 = weights
    gx = product(y, gz, (w2, w3, w1), tables, lmax_of(x.shape[1]), odd)
    gy = product(gz, x, (w3, w1, w2), tables, lmax_of(y.shape[1]), odd)
    return gx, gy


def _spectrum(x: Tensor, series: Tensor, size: tuple[int, int]) -> Tensor:
    """Fourier coefficients (batch, u, v, channels), for v >= 0, of a real function."""
    lmax = lmax_of(x.shape[1])
    spectrum = x.new_zeros(
        (len(x), size[0], size[1] // 2 + 1, x.shape[2]), dtype=x.dtype.to_complex()
    )
    opposite = -torch.arange(lmax + 1, device=x.device)
    for order in range(lmax + 1):
        table = series[order, order : lmax + 1, : lmax + 1].mT
        cosine, sine = _columns(order, lmax, x.device)
        # Half of each wave goes to u and to -u, and of those around the axis to v and to -v.
        waves = torch.complex(table @ x[:, cosine], -(table @ x[:, sine])) / 4
        if order == 0:
            waves = torch.complex(2 * waves.real, torch.zeros_like(waves.real))
        if order % 2 == 0:
            spectrum[:, : lmax + 1, order] += waves
            spectrum[:, opposite, order] += waves
        else:
            spectrum[:, : lmax + 1, order] -= 1j * waves
            spectrum[:, opposite, order] += 1j * waves
    return spectrum


def _waves(column: Tensor, degree: int, even: bool) -> Tensor:
    """Coefficients of the cosines (even) or sines of u theta, from those of the exponentials."""
    plus = column[:, : degree + 1]
    minus = column[:, -torch.arange(degree + 1, device=column.device)]
    if not even:
        return 1j * (plus - minus)
    waves = plus + minus
    waves[:, 0] /= 2
    return waves


def _values(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.fft.irfft2(spectrum, s=size, dim=(1, 2), norm="forward")


def _slopes(spectrum: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Derivatives in both angles, on the grid."""
    u = torch.fft.fftfreq(size[0], 1 / size[0], dtype=torch.float64, device=spectrum.device)
    v = torch.arange(spectrum.shape[2], device=spectrum.device)
    u, v = u[:, None, None].to(spectrum.dtype), v[:, None].to(spectrum.dtype)
    return _values(1j * u * spectrum, size), _values(1j * v * spectrum, size)


def _columns(order: int, lmax: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of the coefficients of orders m and -m, for the degrees from m to lmax."""
    degree = torch.arange(order, lmax + 1, device=device)
    centre = degree * degree + degree
    return centre + order, centre - order


def _weighted(x: Tensor, weight: Tensor | None, table: Tensor) -> Tensor:
    x = x.to(table.dtype)
    return x if weight is None else x * by_coefficient(weight)
