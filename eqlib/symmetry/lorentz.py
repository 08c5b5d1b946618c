"""The Lorentz group of spacetime, time first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.symmetry.matrix import MatrixGroup
from eqlib.symmetry.sampling import in_ball, orthogonal_matrices, uniform

LARGEST_RAPIDITY = 1.0


@dataclass(frozen=True, repr=False)
class Lorentz(MatrixGroup):
    r"""Matrices with :math:`M^\top \eta M = \eta = \operatorname{diag}(1, -1, \ldots, -1)`.

    This is O(1, d-1), which acts on d-vectors with time as component 0. By its polar decomposition,
    a matrix is a boost (symmetric and positive) followed by a matrix that reverses time or not, and
    turns or reflects space. Samples of determinant 1 are named "rotation", those of determinant -1
    "reflection"; every other one reverses time. Boosts have a rapidity of at most 1, uniform in a
    ball.

    Args:
        dimension: d, that of space and time together, at least 2.
        orthochronous: leave out the matrices that reverse time.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    orthochronous: bool = False

    preserves = "intervals"
    reflections = True
    stretching = "boost"

    def __repr__(self) -> str:
        option = ", orthochronous=True" if self.orthochronous else ""
        return f"Lorentz({self.dimension}{option})"

    @property
    def turns(self) -> tuple[str, ...]:
        """Rotation and reflection; on a line, reversing time and space is the one rotation."""
        if self.dimension == 2 and self.orthochronous:
            return ("reflection",)
        return ("rotation", "reflection")

    def _draw_turns(self, generator: torch.Generator, samples: int, mirrored: Tensor) -> Tensor:
        # In turn from a random start, so that a few samples already have both.
        turn = torch.where(mirrored, mirrored.cumsum(0), (~mirrored).cumsum(0))
        reverses = (turn % 2 == 1) ^ (uniform(generator, 1) < 0.5)
        if self.orthochronous:
            reverses = torch.zeros_like(reverses)
        elif self.dimension == 2:
            reverses = reverses | ~mirrored
        matrix = torch.zeros(
            samples, self.dimension, self.dimension, dtype=torch.float64, device=generator.device
        )
        matrix[:, 0, 0] = torch.where(reverses, -1.0, 1.0)
        matrix[:, 1:, 1:] = orthogonal_matrices(
            generator, samples, self.dimension - 1, mirrored != reverses
        )
        return matrix

    def _draw_stretchings(self, generator: torch.Generator, samples: int) -> Tensor:
        return boosts(LARGEST_RAPIDITY * in_ball(generator, samples, self.dimension - 1))

    def _inverse(self, matrix: Tensor) -> Tensor:
        signs = -torch.ones_like(matrix[..., 0])
        signs[..., 0] = 1
        return signs[..., None] * matrix.mT * signs[..., None, :]


def boosts(rapidity: Float[Tensor, "*batch space"]) -> Float[Tensor, "*batch d d"]:
    r"""Boosts along directions :math:`n` of space, by rapidities :math:`\varphi`.

    .. math::
        \begin{pmatrix} \cosh\varphi & \sinh\varphi\, n^\top \\
        \sinh\varphi\, n & I + (\cosh\varphi - 1)\, n n^\top \end{pmatrix}

    Args:
        rapidity: the vectors :math:`\varphi n`; the velocity is :math:`\tanh\varphi`.
    """
    size = torch.linalg.vector_norm(rapidity, dim=-1)[..., None, None]
    direction = torch.nn.functional.normalize(rapidity, dim=-1)[..., None]
    space = torch.eye(rapidity.shape[-1], dtype=rapidity.dtype, device=rapidity.device)
    column = torch.sinh(size) * direction
    block = space + (torch.cosh(size) - 1) * direction @ direction.mT
    top = torch.cat([torch.cosh(size), column.mT], dim=-1)
    return torch.cat([top, torch.cat([column, block], dim=-1)], dim=-2)
