"""Whether the outputs for two graphs differ by more than their scatter over relabellings."""

from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

RIDGE = 1e-7
"""Added to the diagonal of the covariance, which is zero for exactly invariant networks."""


class Statistic(NamedTuple):
    """Hotelling's T-squared of paired differences, in three forms."""

    ridge: float
    """:math:`q \\bar D^\\top (S + 10^{-7} I)^{-1} \\bar D`: the form that decides here."""
    pinv: float
    """:math:`q \\bar D^\\top S^+ \\bar D`, the textbook's: no number where S vanishes."""
    released: float
    """:math:`\\bar D^\\top S^+ \\bar D`, which the released script compares with the same bound."""


def paired_statistic(
    differences: Float64[Tensor, "copies outputs"], ridge: float = RIDGE
) -> Statistic:
    r"""Return Hotelling's T-squared of the hypothesis that differences have mean zero.

    With the mean :math:`\bar D` and the covariance S of q differences,
    :math:`T^2 = q \bar D^\top S^{-1} \bar D`.

    Args:
        differences: outputs for a relabelling of one graph minus those for one of the other.
        ridge: added to the diagonal of S, in squared units of the outputs. The pseudo-inverse
            drops the directions in which the differences do not scatter: two graphs that an exactly
            invariant network maps to different constants get 0 from it, or the ratio of two
            rounding errors. With the ridge they differ where
            :math:`\lVert \bar D \rVert^2 > 72.34 \cdot 10^{-7} / 32`, at 4.8e-4.

    Note:
        Outputs that are not finite give NaN, which passes no bound.

    Source:
        Wang and Zhang, An Empirical Study of Realized GNN Expressiveness, ICML 2024.
    """
    copies = len(differences)
    mean = differences.mean(0)
    covariance = torch.cov(differences.T).reshape(len(mean), len(mean))
    if not covariance.isfinite().all():
        return Statistic(torch.nan, torch.nan, torch.nan)
    eye = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    regular = mean @ torch.linalg.solve(covariance + ridge * eye, mean)
    released = (mean @ torch.linalg.pinv(covariance) @ mean).item()
    return Statistic(copies * regular.item(), copies * released, released)


def threshold(copies: int = 32, outputs: int = 16, level: float = 0.95) -> float:
    r"""Return what T-squared stays below with a probability where the means are equal.

    For normal differences :math:`T^2 (q - d) / ((q - 1) d)` has the distribution F(d, q - d).

    Args:
        copies: the number q of differences.
        outputs: their number d of entries.
        level: the probability.

    Raises:
        ValueError: there are no more copies than outputs.
    """
    if copies <= outputs:
        raise ValueError(
            f"copies: got {copies} for {outputs} outputs; expected more copies than outputs"
        )
    from scipy.special import fdtri  # slow to import

    freedom = copies - outputs
    return float((copies - 1) * outputs / freedom * fdtri(outputs, freedom, level))
