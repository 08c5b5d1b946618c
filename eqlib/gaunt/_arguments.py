"""Argument checks of the products on the sphere."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from eqlib.kernels.autocast import is_autocasting
from eqlib.kernels.gaunt_product import LARGEST_DEGREE

LIMIT = max(LARGEST_DEGREE.values())


def check_operands(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Return the degrees of x and y, or raise unless they can be multiplied channel by channel."""
    degrees = (_degree(x, "x"), _degree(y, "y"))
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}; move one to the other")
    if x.dtype != y.dtype and not is_autocasting(x.device.type):
        raise ValueError(
            f"x has dtype {x.dtype} and y {y.dtype}; expected the same: convert one of them"
        )
    if x.shape[-1] != y.shape[-1] and 1 not in (x.shape[-1], y.shape[-1]):
        raise ValueError(
            f"x has {x.shape[-1]} channels and y {y.shape[-1]}; expected the same number, or 1, "
            "since products are taken channel by channel: mix channels with a linear layer before"
        )
    for size, other in zip(x.shape[-3::-1], y.shape[-3::-1], strict=False):
        if size != other and 1 not in (size, other):
            raise ValueError(
                f"x has batch axes {tuple(x.shape[:-2])} and y {tuple(y.shape[:-2])}; "
                "expected axes that broadcast"
            )
    return degrees


def check_implementation(implementation: str) -> None:
    """Raise unless there is such an implementation."""
    names = ("auto", *LARGEST_DEGREE)
    if implementation not in names:
        close = get_close_matches(str(implementation), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"implementation is {implementation!r}; expected one of {', '.join(names)}{hint}"
        )


def check_weights(
    weights: Sequence[Tensor | None], lmaxes: tuple[int, int, int], x: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return three weights that fit operands like x, or raise."""
    if isinstance(weights, Tensor) or len(weights) != 3:
        got = "a tensor" if isinstance(weights, Tensor) else f"{len(weights)} of them"
        raise ValueError(f"weights: expected three, for x, y and the result, got {got}")
    allowed = (x.dtype, torch.promote_types(x.dtype, torch.float32))
    for number, (weight, lmax) in enumerate(zip(weights, lmaxes, strict=True)):
        if weight is None:
            continue
        expected = (lmax + 1, x.shape[-1])
        if tuple(weight.shape) != expected:
            raise ValueError(
                f"weights[{number}] has shape {tuple(weight.shape)}; expected {expected}: one "
                f"factor for each degree up to {lmax} and each channel"
            )
        if weight.dtype not in allowed and not is_autocasting(x.device.type):
            kind = ValueError if weight.is_floating_point() else TypeError
            raise kind(
                f"weights[{number}] has dtype {weight.dtype}; expected {allowed[1]}, as the "
                f"operands have dtype {x.dtype}"
            )
        if weight.device != x.device:
            raise ValueError(
                f"weights[{number}] is on {weight.device} and x on {x.device}; move one"
            )
    w1, w2, w3 = weights
    return w1, w2, w3


def known(degree: int, name: str) -> int:
    """Return a degree as a plain number, or raise."""
    if isinstance(degree, bool) or not isinstance(degree, int | torch.SymInt):
        raise TypeError(f"{name} is {degree!r}; expected a whole number, such as 3")
    for value in range(LIMIT + 1):
        if degree == value:
            return value
    raise ValueError(f"{name} is {degree}; expected 0 <= {name} <= {LIMIT}")


def _degree(x: Tensor, name: str) -> int:
    """Return the degree of the coefficients of an operand."""
    if not x.is_floating_point():
        raise TypeError(
            f"{name} has dtype {x.dtype}; expected floating point: convert it, such as with "
            f"{name}.float()"
        )
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (..., coeffs, channels)")
    coeffs = x.shape[-2]
    # Comparisons, not a root: they make a plain number of a symbolic size.
    for degree in range(LIMIT + 1):
        if coeffs == (degree + 1) ** 2:
            return degree
    if coeffs > (LIMIT + 1) ** 2:
        raise ValueError(
            f"{name} has {coeffs} coefficients; expected at most {(LIMIT + 1) ** 2}, degree {LIMIT}"
        )
    raise ValueError(
        f"{name} has shape {tuple(x.shape)}; expected (..., (L + 1)^2, channels), and {coeffs} is "
        "not a square number: coefficients stand on the axis before the channels"
    )
