"""Planes through neighbourhoods: the smallest equivariant baseline."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import symmetric_eigh
from eqlib.models.normals.networks.base import NormalsNetwork
from eqlib.models.normals.networks.dgcnn import nearest_neighbours


class FittedPlanes(nn.Module):
    r"""Normals of planes fitted to neighbourhoods, turned away from the centroid of the cloud.

    The plane of point i minimises :math:`\sum_j w_{ij} (n \cdot (x_j - m_i))^2` with the weights
    :math:`w_{ij} = \exp(-a\, d_{ij}^2 / \operatorname{mean}_j d_{ij}^2)`, their mean :math:`m_i`
    and one learned number a.

    Args:
        neighbours: number of neighbours of each point, itself left out.
    """

    def __init__(self, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.decay = nn.Parameter(torch.ones(()))

    def forward(self, points: Float[Tensor, "batch nodes 3"]) -> Float[Tensor, "batch nodes 3"]:
        """Return unit vectors."""
        nearest = nearest_neighbours(points, self.neighbours)
        clouds = torch.arange(len(points), device=points.device)[:, None, None]
        patches = torch.cat([points[:, :, None], points[clouds, nearest]], 2)
        square = (patches - points[:, :, None]).square().sum(-1, keepdim=True)
        scale = square.mean(2, keepdim=True)
        weights = (-self.decay * square / torch.where(scale > 0, scale, 1.0)).softmax(2)
        centred = patches - (weights * patches).sum(2, keepdim=True)
        _, axes = symmetric_eigh((weights * centred).mT @ centred)
        normals = axes[..., 0]
        outwards = (normals * points).sum(-1, keepdim=True)
        return torch.where(outwards < 0, -normals, normals)


class Plane(NormalsNetwork):
    """Planes fitted to neighbourhoods, with one learned number.

    Args:
        neighbours: number of neighbours of each point.
    """

    def __init__(self, neighbours: int = 12) -> None:
        super().__init__(FittedPlanes(neighbours))
