"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.kernels.choice import whynot_cpu, whynot_triton
from eqlib.kernels.gaunt_product.triton_configurations import chip_of, largest_degree
from eqlib.kernels.gaunt_product.triton_tables import SPARSE_UP_TO

LARGEST_DEGREE = {
    "naive": 12,
    "compiled": 10,
    "separable": 20,
    "blocked": 30,
    "fourier": 30,
    "triton": 9,
    "triton_tf32": 9,
    "triton_bf16": 9,
}
"""Largest degree of an operand by implementation."""

_WORK_OF_TERM_ON_CIRCLES = 1.5
"""Multiply-adds of the separable form that take the time of one term of the sum, by ``_terms``."""
_WORK_OF_TERM = 7.3
"""Arithmetic on the grid, at the speed of a matrix product, that takes the time of one term of the
sum over coefficients, by ``_terms``: the measurement is in README.md."""


class Implementation(NamedTuple):
    """The functions of an implementation; their contract is in ``op.py``."""

    product: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, Tensor]]
    weight_gradients: Callable[..., tuple[Tensor, Tensor, tuple[Tensor, ...]]] | None = None
    """Where an implementation has its own; `_weight_gradients.py` composes it of the others."""


@cache
def load(name: str) -> Implementation:
    """Import an implementation."""
    module = _module(name)
    own = getattr(module, "weight_gradients", None)
    return Implementation(module.product, module.gradients, own)


def pick(
    device: torch.device, dtype: torch.dtype, lmaxes: tuple[int, int, int], odd: bool
) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason, as README.md measures.

    Args:
        device: that of the operands.
        dtype: that of the operands.
        lmaxes: degrees of both operands and of the result.
        odd: whether it is the bracket.
    """
    if device.type == "cuda":
        reason = whynot("triton", device, dtype, lmaxes)
        if not reason:
            return "triton", "on a GPU the fused kernel reads and writes the features once"
        return "blocked", f"triton cannot run: {reason}"
    if device.type != "cpu":
        return "blocked", "torch's own matrix products run on every device"
    fewer = _work_on_circles(lmaxes) < _WORK_OF_TERM_ON_CIRCLES * _terms(lmaxes, odd)
    if not odd and (fewer or max(lmaxes) > LARGEST_DEGREE["compiled"]):
        reason = "at these degrees it is faster than the sum over coefficients"
        return _if_compiled("separable", device, dtype, lmaxes, reason)
    if odd and _terms(lmaxes, odd) * _WORK_OF_TERM > _work_on_grid(lmaxes):
        return "blocked", "at these degrees products with tables of harmonics are faster"
    reason = "most coefficients are zero, and this machine has a C compiler"
    return _if_compiled("compiled", device, dtype, lmaxes, reason)


def _if_compiled(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    lmaxes: tuple[int, int, int],
    reason: str,
) -> tuple[str, str]:
    against = whynot(name, device, dtype, lmaxes)
    return ("blocked", f"{name} cannot run: {against}") if against else (name, reason)


def whynot(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    lmaxes: tuple[int, int, int],
    odd: bool = False,
) -> str:
    """Return why an implementation cannot compute a product, or nothing.

    Args:
        name: of the implementation.
        device: that of the operands.
        dtype: that of the operands.
        lmaxes: degrees of both operands and of the result.
        odd: whether it is the bracket.
    """
    if odd and name == "separable":
        return "it has the product only, not the bracket"
    if max(lmaxes) > LARGEST_DEGREE[name]:
        return f"its tables end at degree {LARGEST_DEGREE[name]}, not {max(lmaxes)}"
    if name in ("compiled", "separable"):
        return whynot_cpu(device) or str(_module(name).whynot(dtype))
    if name.startswith("triton"):
        if reason := whynot_triton(device):
            return reason
        degree = max(lmaxes)
        if degree > SPARSE_UP_TO and degree > (limit := largest_degree(chip_of(device), dtype)):
            return f"its tiles for {dtype} on this chip end at degree {limit}, not {degree}"
    return ""


@cache
def _module(name: str) -> ModuleType:
    file = "triton_launch" if name.startswith("triton") else name
    return import_module(f"eqlib.kernels.gaunt_product.{file}")


def _terms(lmaxes: tuple[int, int, int], odd: bool) -> int:
    """Estimate the number of coefficients: two orders of each path determine the third."""
    count = 0
    for one, two, three in product(*(range(lmax + 1) for lmax in lmaxes)):
        if abs(one - two) <= three <= one + two and (one + two + three) % 2 == odd:
            smallest, middle, _ = sorted((one, two, three))
            count += (2 * smallest + 1) * (2 * middle + 1)
    return count


def _work_on_circles(lmaxes: tuple[int, int, int]) -> int:
    """Estimate the multiply-adds of the separable form."""
    pairs = (sum(lmaxes) // 2 + 2) // 2
    orders = product(*(range(lmax + 1) for lmax in lmaxes))
    products = sum(three in (one + two, abs(one - two)) for one, two, three in orders)
    return pairs * (sum((lmax + 1) ** 2 for lmax in lmaxes) + 2 * 4 * products)


def _work_on_grid(lmaxes: tuple[int, int, int]) -> float:
    """Estimate the arithmetic of the five table products of a bracket."""
    points = (sum(lmaxes) + 1) ** 2 / 3
    one, two, three = ((lmax + 1) ** 2 for lmax in lmaxes)
    return 2 * points * (2 * (one + two) + three)
