"""Features of distances and invariants, to be used beside the polynomials of kernels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.position_orientation.double_buffers import DoubleBuffers


class GaussianDistances(nn.Module):
    r"""Gaussians of the length of offsets, at even lengths and as wide as they are apart.

    .. math:: e_k(r) = \exp\Bigl(-\frac{(|r| - k \delta)^2}{2 \delta^2}\Bigr), \qquad
        \delta = \frac{R}{K - 1}, \quad k = 0, \ldots, K - 1

    with the softened length :math:`|r| = \sqrt{r^2 + s^2} - s`, which is smooth at zero. They serve
    as scalars of edges: the polynomials of a kernel are of low degree and tell shells of neighbours
    less sharply apart.

    Args:
        count: number K of functions, at least 2.
        radius: R, in the unit of the offsets.
        softening: s, in the unit of the offsets.

    Raises:
        ValueError: ``count`` is below 2, or ``radius`` or ``softening`` is not positive.
        TypeError: ``count`` is not an integer.
    """

    def __init__(self, count: int, radius: float, softening: float = 0.1) -> None:
        super().__init__()
        _check_count("count", count, least=2)
        _check_length("radius", radius)
        _check_length("softening", softening)
        self.count, self.radius, self.softening = count, radius, softening

    def forward(self, offsets: Float[Tensor, "*edges n"]) -> Float[Tensor, "*edges count"]:
        """The values of all functions, from 0 to 1; in the dtype of the offsets.

        Args:
            offsets: vectors, in the unit of the radius.

        Raises:
            TypeError: the offsets are not floating point.
        """
        exact = _exact("offsets", offsets)
        square = exact.square().sum(-1, keepdim=True)
        length = square / ((square + self.softening**2).sqrt() + self.softening)
        centres = torch.arange(self.count, dtype=exact.dtype, device=exact.device)
        steps = length * ((self.count - 1) / self.radius) - centres
        return (-0.5 * steps.square()).exp().to(offsets.dtype)

    def extra_repr(self) -> str:
        """Count, radius and softening."""
        return f"count={self.count}, radius={self.radius}, softening={self.softening}"


class RandomFourierFeatures(DoubleBuffers):
    r"""Waves of random directions: features whose inner product is a Gaussian kernel.

    .. math:: \phi(a) = \sqrt{\tfrac1K}\, \bigl(\cos(B a), \sin(B a)\bigr), \qquad
        \langle \phi(a) \cdot \phi(b) \rangle = \exp\Bigl(-\frac{|a - b|^2}{2 \ell^2}\Bigr)

    with K rows of B drawn from a normal distribution of standard deviation :math:`1 / \ell`. B is
    saved with the module.

    Args:
        inputs: number of invariants in a.
        count: number K of frequencies; there are 2 K features.
        length_scale: l, the change of the invariants over which features change.
        generator: the source of the frequencies; by default one with the seed 0.

    Raises:
        ValueError: a number is too small.
        TypeError: ``inputs`` or ``count`` is not an integer.

    Source:
        Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007.
    """

    frequencies: Float[Tensor, "count inputs"]

    def __init__(
        self,
        inputs: int,
        count: int,
        length_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_count("inputs", inputs, least=1)
        _check_count("count", count, least=1)
        _check_length("length_scale", length_scale)
        if generator is None:
            generator = torch.Generator("cpu").manual_seed(0)
        draws = torch.randn(
            count, inputs, dtype=torch.float64, generator=generator, device=generator.device
        )
        self.register_buffer("frequencies", (draws / length_scale).cpu())

    def forward(self, invariants: Float[Tensor, "*pairs inputs"]) -> Float[Tensor, "*pairs waves"]:
        """Cosines, then sines; computed in float32 at least, in the dtype of the invariants.

        Args:
            invariants: numbers without unit, of about unit size.

        Raises:
            ValueError: their number is not that of the module.
            TypeError: they are not floating point.
        """
        count, inputs = self.frequencies.shape
        if invariants.shape[-1:] != (inputs,):
            raise ValueError(
                f"invariants: expected shape (..., {inputs}), got {tuple(invariants.shape)}"
            )
        exact = _exact("invariants", invariants)
        with torch.autocast(exact.device.type, enabled=False):
            phases = exact @ self.frequencies.to(exact.dtype).mT
        waves = torch.cat([phases.cos(), phases.sin()], dim=-1) * count**-0.5
        return waves.to(invariants.dtype)

    def extra_repr(self) -> str:
        """Numbers of inputs and frequencies."""
        count, inputs = self.frequencies.shape
        return f"inputs={inputs}, count={count}"


def _exact(name: str, values: Tensor) -> Tensor:
    """Values in float32 at least: half precision loses the phase of fast waves."""
    if not values.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point numbers, got {values.dtype}; "
            "convert with .to(torch.get_default_dtype())"
        )
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value}")


def _check_length(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")
