"""Tensors with a tangent, so that formulas of a gradient also give its derivative.

Formulas written in these functions take tensors, or duals throughout. Operations of torch cannot
be differentiated by torch from within, which is why this exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, TypeVar

import torch
from torch import Tensor

_FAR = 30.0  # beyond, the density of a normal distribution is zero, and squares may overflow


@dataclass(frozen=True)
class Dual:
    """A tensor and its derivative along some direction; None stands for zero."""

    value: Tensor
    tangent: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """That of the value."""
        return self.value.shape

    def __len__(self) -> int:
        """Return the size of the first axis."""
        return len(self.value)

    def __add__(self, other: Dual) -> Dual:
        """Add both parts."""
        value, tangent = self.value + other.value, _sum(self.tangent, other.tangent)
        return Dual(value, None if tangent is None else tangent.expand(value.shape))

    def __sub__(self, other: Dual) -> Dual:
        """Subtract both parts."""
        return self + other * -1.0

    def __mul__(self, other: Dual | float) -> Dual:
        """Multiply by the product rule."""
        if not isinstance(other, Dual):
            return self._through(lambda part: part * other)
        return _bilinear(torch.mul, self, other)

    def __matmul__(self, other: Dual) -> Dual:
        """Multiply matrices by the product rule."""
        return _bilinear(torch.matmul, self, other)

    def __getitem__(self, index: Any) -> Dual:
        """Index both parts alike."""
        return self._through(lambda part: part[index])

    @property
    def mT(self) -> Dual:  # noqa: N802
        """Transpose matrices."""
        return self._through(lambda part: part.mT)

    def sum(self, dim: int | tuple[int, ...], keepdim: bool = False) -> Dual:
        """Sum over axes."""
        return self._through(lambda part: part.sum(dim, keepdim=keepdim))

    def expand(self, *shape: int) -> Dual:
        """Repeat along axes of size one."""
        return self._through(lambda part: part.expand(*shape))

    def flatten(self, start: int, end: int) -> Dual:
        """Merge axes."""
        return self._through(lambda part: part.flatten(start, end))

    def index_select(self, dim: int, index: Tensor) -> Dual:
        """Gather along an axis."""
        return self._through(lambda part: part.index_select(dim, index))

    def _through(self, function: Callable[[Tensor], Tensor]) -> Dual:
        """Apply a linear function."""
        tangent = None if self.tangent is None else function(self.tangent)
        return Dual(function(self.value), tangent)


Value = TypeVar("Value", Tensor, Dual)


def concatenate(values: Sequence[Value]) -> Value:
    """Join along the last axis."""
    return _joined(lambda tensors: torch.cat(tensors, dim=-1), values)


def stack(values: Sequence[Value]) -> Value:
    """Join along a new last axis."""
    return _joined(lambda tensors: torch.stack(tensors, dim=-1), values)


def soft_length(square: Value, softening: float) -> Value:
    r"""Return :math:`\sqrt{q + \varepsilon^2} - \varepsilon`, without cancellation."""
    return _apply(
        lambda q: q / ((q + softening**2).sqrt() + softening),
        lambda q: 0.5 * (q + softening**2).rsqrt(),
        square,
    )


def soft_length_slope(square: Value, softening: float) -> Value:
    """Return the derivative of the soft length by the squared length."""
    return _apply(
        lambda q: 0.5 * (q + softening**2).rsqrt(),
        lambda q: -0.25 * (q + softening**2).pow(-1.5),
        square,
    )


def window(square: Value) -> Value:
    r"""Return :math:`1 - 28u^6 + 48u^7 - 21u^8` of :math:`u^2 < 1`, else 0."""
    return _apply(_window, _window_slope, square)


def window_slope(square: Value) -> Value:
    r"""Return its derivative by :math:`u^2`, which is :math:`-84 u^4 (1 - u)^2`."""
    return _apply(_window_slope, _window_curvature, square)


def gelu(x: Dual) -> Dual:
    r"""Return :math:`x\,\Phi(x)`."""
    tangent = None if x.tangent is None else _gelu_backward(x.tangent, x.value)
    return Dual(torch.nn.functional.gelu(x.value), tangent)


def gelu_transposed(grad: Dual, x: Dual) -> Dual:
    r"""Return the gradient of x from that of :math:`x\,\Phi(x)`."""
    first = None if grad.tangent is None else _gelu_backward(grad.tangent, x.value)
    second = None
    if x.tangent is not None:
        second = _gelu_curvature(x.value).mul_(x.tangent).mul_(grad.value)
    return Dual(_gelu_backward(grad.value, x.value), _sum(first, second))


def _window(square: Tensor) -> Tensor:
    # The factor (1 - u)^3 divides the sum of powers, which cancel where u is close to 1.
    u = square.clamp(max=1.0).sqrt()
    rest = 1 + u * (3 + u * (6 + u * (10 + u * (15 + u * 21))))
    return (1 - u) ** 3 * rest


def _window_slope(square: Tensor) -> Tensor:
    square = square.clamp(max=1.0)
    return -84 * (square * (1 - square.sqrt())).square()


def _window_curvature(square: Tensor) -> Tensor:
    square = square.clamp(max=1.0)
    u = square.sqrt()
    return -84 * square * (1 - u) * (2 - 3 * u)


def _gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.ops.aten.gelu_backward(grad, x)


def _gelu_curvature(x: Tensor) -> Tensor:
    """Return (2 - x^2) times the density of a normal distribution."""
    square = x.clamp(-_FAR, _FAR).square_()
    density = (square * -0.5).exp_().mul_(1 / sqrt(2 * pi))
    return square.neg_().add_(2).mul_(density)


def _apply(
    function: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], x: Value
) -> Value:
    if isinstance(x, Tensor):
        return function(x)
    tangent = None if x.tangent is None else slope(x.value) * x.tangent
    return Dual(function(x.value), tangent)


def _joined(join: Callable[[list[Tensor]], Tensor], values: Sequence[Value]) -> Value:
    if isinstance(values[0], Tensor):
        return join([value for value in values if isinstance(value, Tensor)])
    duals = [value for value in values if isinstance(value, Dual)]
    if all(dual.tangent is None for dual in duals):
        return Dual(join([dual.value for dual in duals]))
    tangents = [_or_zero(dual) for dual in duals]
    return Dual(join([dual.value for dual in duals]), join(tangents))


def _or_zero(dual: Dual) -> Tensor:
    return torch.zeros_like(dual.value) if dual.tangent is None else dual.tangent


def _bilinear(product: Callable[[Tensor, Tensor], Tensor], a: Dual, b: Dual) -> Dual:
    left = None if a.tangent is None else product(a.tangent, b.value)
    right = None if b.tangent is None else product(a.value, b.tangent)
    return Dual(product(a.value, b.value), _sum(left, right))


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
