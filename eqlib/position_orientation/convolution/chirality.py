"""What tells left from right on R3xS2, where the convolutions do not."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry._checks import check_count
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.grids import OrientationGrid


class HandedTerm(nn.Module):
    r"""Cross products of the vectors that features on the sphere hold, seen from each direction.

    .. math::
        h_{ipc} = p \cdot \frac{V_{ic} \times V'_{ic}}
            {\sqrt{1 + |V_{ic}|^2 + |V'_{ic}|^2}}, \qquad
        V_{ic} = 3 \sum_o w_o\, o\, y_{ioc}, \qquad V'_{ic} = \sum_d M_{cd} V_{id}

    Kernels of :math:`r \cdot o`, :math:`|r - (r \cdot o)\, o|` and :math:`o \cdot p` are the same
    for mirror images, and so is all that a network makes of them. This term changes its sign under
    reflections; with the grid turned, it is exact under rotations.

    Args:
        channels: number of channels.
        grid: directions in three dimensions.

    Raises:
        TypeError: ``channels`` is not an integer.
        ValueError: ``channels`` is not positive, or the space is not R3xS2.
    """

    def __init__(self, channels: int, grid: OrientationGrid) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        if grid.space.name != "R3xS2":
            raise ValueError(
                f"grid is one of {grid.space.name}; the term is defined on R3xS2: on other spaces "
                "with orientations, convolutions tell left from right"
            )
        self.channels = channels
        self.mix = nn.Parameter(torch.empty(channels, channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, normal with variance 1 / ``channels``.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        nn.init.normal_(self.mix, std=self.channels**-0.5, generator=generator)

    def forward(
        self,
        features: Float[Tensor, "nodes grid channels"],
        geometry: Geometry,
        grid: OrientationGrid,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The term h.

        Args:
            features: y, of each node and direction.
            geometry: with the directions of each graph.
            grid: it has the weights w.
        """
        directions = geometry.orientations.to(features.dtype)
        weights = grid.weights.to(features.dtype)
        per_node = directions
        if directions.shape[0] > 1 and geometry.batch is not None:
            per_node = directions.index_select(0, geometry.batch)
        moments = (3 * weights[:, None] * per_node).mT @ features
        mixed = moments @ self.mix.mT.to(features.dtype)
        cross = torch.linalg.cross(moments, mixed, dim=1)
        squares = (moments.square() + mixed.square()).sum(1, keepdim=True)
        return per_node @ (cross / (1 + squares).sqrt())

    def extra_repr(self) -> str:
        """Channels."""
        return str(self.channels)
