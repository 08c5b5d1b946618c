"""DGCNN: edge convolutions on graphs of nearest neighbours."""

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from eqlib.models.normals.networks.base import Fusion, NormalsNetwork, Pointwise, Vectors

Graph = Literal["coordinates", "features"]
GRAPHS: tuple[Graph, ...] = ("coordinates", "features")


class DGCNNFeatures(nn.Module):
    """Features of every point after several edge convolutions, and their maxima over the cloud.

    Args:
        inputs: number of features of each point.
        width: number of features of a layer, and of those that come out.
        layers: number of edge convolutions.
        neighbours: number of neighbours of each point.
        graph: coordinates takes the nearest points in every layer, features those that are
            nearest in the features that enter the layer.
    """

    def __init__(
        self, inputs: int, width: int, layers: int, neighbours: int, graph: Graph = "coordinates"
    ) -> None:
        super().__init__()
        if graph not in GRAPHS:
            raise ValueError(f"graph: got {graph!r}, expected one of {', '.join(GRAPHS)}")
        if neighbours < 1:
            raise ValueError(f"neighbours: got {neighbours}, expected at least 1")
        self.neighbours, self.graph = neighbours, graph
        widths = [inputs] + [width] * layers
        self.layers = nn.ModuleList(EdgeConvolution(*pair) for pair in pairwise(widths))
        self.wide = Pointwise(layers * width, 4 * width)
        self.fuse = Fusion(layers * width, 4 * width, width)

    def forward(
        self, features: Float[Tensor, "batch nodes inputs"], points: Float[Tensor, "batch nodes 3"]
    ) -> Float[Tensor, "batch nodes width"]:
        """Return the features."""
        nearest = nearest_neighbours(points, self.neighbours)
        found = []
        for depth, layer in enumerate(self.layers):
            if depth > 0 and self.graph == "features":
                nearest = nearest_neighbours(features, self.neighbours)
            features = layer(features, nearest)
            found.append(features)
        local = torch.cat(found, -1)
        return self.fuse(local, self.wide(local))


class EdgeConvolution(nn.Module):
    r"""The largest of linear maps of the differences from the neighbours.

    .. math:: y_i = \operatorname{ReLU}\bigl(\operatorname{norm}\bigl(
        A x_i + \max_j B (x_j - x_i)\bigr)\bigr)

    Args:
        inputs: number of features of each point.
        width: number of features that come out.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, width)
        self.other = nn.Linear(inputs, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Float[Tensor, "batch nodes inputs"], nearest: Int[Tensor, "batch nodes k"]
    ) -> Float[Tensor, "batch nodes width"]:
        """Return the new features."""
        other = self.other(features)
        largest = neighbour_max(other, nearest) - other
        return functional.relu(self.norm(self.own(features) + largest))


class DGCNN(NormalsNetwork):
    """DGCNN on the coordinates as they are: no rotational symmetry.

    Args:
        width: number of features of a layer.
        layers: number of edge convolutions.
        neighbours: number of neighbours of each point.
        graph: coordinates takes the nearest points in every layer, features those that are
            nearest in the features that enter the layer, as published.

    Raises:
        ValueError: ``neighbours`` is not positive, or ``graph`` neither of the two.

    Source:
        Wang et al., Dynamic Graph CNN for Learning on Point Clouds, ACM TOG 2019. Here layer
        normalisation after the maximum in place of batch normalisation before it, so that the
        linear maps of an edge are computed once per point.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 3,
        neighbours: int = 16,
        graph: Graph = "coordinates",
    ) -> None:
        super().__init__(Vectors(DGCNNFeatures(3, width, layers, neighbours, graph), width))


@torch.no_grad()
def nearest_neighbours(
    points: Float[Tensor, "batch nodes d"], number: int
) -> Int[Tensor, "batch nodes k"]:
    """Return the nearest other points of each, fewer where a cloud has fewer.

    A single point is its own neighbour.
    """
    # the faster way of cdist, by products, loses the digits that tell neighbours apart
    mode = "use_mm_for_euclid_dist" if points.shape[-1] > 3 else "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(points, points, compute_mode=mode)
    nodes = points.shape[1]
    if nodes > 1:
        distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return distances.topk(min(number, max(nodes - 1, 1), nodes), largest=False).indices


def neighbour_max(
    features: Float[Tensor, "batch nodes c"], nearest: Int[Tensor, "batch nodes k"]
) -> Float[Tensor, "batch nodes c"]:
    """Return the largest value of each feature among the neighbours of each point.

    The gradient goes to the neighbour that has it; finding that first, and gathering then, spares
    the backward pass all other neighbours.
    """
    if features.numel() == 0:
        return features
    batch, nodes, channels = features.shape
    start = torch.arange(batch, device=features.device)[:, None, None] * nodes
    rows = (nearest + start).flatten(0, 1)
    flat = features.reshape(-1, channels)
    differentiated = torch.is_grad_enabled() and features.requires_grad
    with torch.no_grad():
        largest = flat.index_select(0, rows[:, 0])
        where = rows[:, :1].expand_as(largest)
        for column in rows.unbind(1)[1:]:
            other = flat.index_select(0, column)
            if differentiated:
                where = torch.where(other > largest, column[:, None], where)
            largest = torch.maximum(largest, other)
    found = flat.gather(0, where) if differentiated else largest
    return found.view_as(features)
