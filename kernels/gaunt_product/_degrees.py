"""Degrees of coefficients, and weights per degree."""

import math

import torch
from torch import Tensor


def lmax_of(coeffs: int) -> int:
    """Return the degree L of (L + 1)^2 coefficients."""
    return math.isqrt(coeffs) - 1


def by_coefficient(weight: Tensor) -> Tensor:
    """Repeat weights (L + 1, C) for the coefficients of each degree: (S, C)."""
    return weight.index_select(0, _degrees(len(weight) ** 2, weight.device))


def by_degree(sums: Tensor) -> Tensor:
    """Sum (S, C) over the coefficients of each degree: (L + 1, C)."""
    total = sums.new_zeros(lmax_of(len(sums)) + 1, sums.shape[1])
    return total.index_add_(0, _degrees(len(sums), sums.device), sums)


def _degrees(coeffs: int, device: torch.device) -> Tensor:
    # Roots of square numbers are exact.
    return torch.arange(coeffs, device=device).sqrt().int()
