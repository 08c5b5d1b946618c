"""The networks on features that every point takes from its neighbours, in frames of its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.frames import Patches, local_frames
from eqlib.models.normals.networks.base import NormalsNetwork, Pointwise
from eqlib.models.normals.networks.dgcnn import DGCNNFeatures, nearest_neighbours
from eqlib.models.normals.networks.pointnet import PointNetFeatures
from eqlib.symmetry import SO

GROUP = SO(3)


class LocalFrames(nn.Module):
    r"""Vectors in the principal frames of the neighbours of each point.

    .. math::
        h_{if} &= \phi\bigl(\max_j B F_{if}^\top (x_j - x_i),\, F_{if}^\top x_i\bigr), \qquad
        c = C\Bigl(\frac14 \sum_f h_{if}\Bigr) \\
        v_i &= \frac14 \sum_f F_{if}\, \psi(h_{if}, c_i)

    with a matrix B, the four right-handed frames :math:`F_{if}` of the neighbours of point i, and a
    network C on features that are invariant.

    Args:
        context: maps invariant features and points to features.
        width: number of features, of both kinds.
        patch: number of neighbours whose frames are taken.
        train_frames: how many of the four frames each point draws for a training step.
    """

    def __init__(self, context: nn.Module, width: int, patch: int, train_frames: int) -> None:
        super().__init__()
        if not 1 <= train_frames <= 4:
            raise ValueError(f"train_frames: got {train_frames}, expected 1 to 4")
        if patch < 1:
            raise ValueError(f"patch: got {patch}, expected at least 1 neighbour")
        self.patch, self.train_frames = patch, train_frames
        self.neighbour = nn.Linear(3, width, bias=False)
        self.point = Pointwise(width + 3, width, width)
        self.context = context
        self.head = Pointwise(2 * width, width)
        self.out = nn.Linear(width, 3)

    def forward(self, points: Float[Tensor, "batch nodes 3"]) -> Float[Tensor, "batch nodes 3"]:
        """Return the vectors."""
        nearest = nearest_neighbours(points, self.patch)
        clouds = torch.arange(len(points), device=points.device)[:, None, None]
        patches = points[clouds, nearest] - points[:, :, None]
        frames = self._frames(points, nearest)
        turned = torch.einsum("bnkd,bnfde->fbnke", patches, frames)
        near = largest_products(turned, self.neighbour.weight)
        own = torch.einsum("bnd,bnfde->fbne", points, frames)
        local = self.point(torch.cat([near, own], -1))
        context = self.context(local.mean(0), points).expand_as(local)
        vectors = self.out(self.head(torch.cat([local, context], -1)))
        return torch.einsum("fbne,bnfde->bnd", vectors, frames) / len(vectors)

    def _frames(
        self, points: Float[Tensor, "batch nodes 3"], nearest: Int[Tensor, "batch nodes k"]
    ) -> Float[Tensor, "batch nodes frames 3 3"]:
        """Return the frames of each point that this pass averages over."""
        patches = Patches(nearest, torch.ones_like(nearest, dtype=torch.bool))
        frames = local_frames(points, group=GROUP, neighbours=patches, detach=True).frames
        if not self.training or self.train_frames == frames.shape[2]:
            return frames
        order = torch.rand(frames.shape[:3], device=frames.device).argsort(2)
        chosen = order[:, :, : self.train_frames, None, None]
        return frames.gather(2, chosen.expand(-1, -1, -1, 3, 3))


class LocalFAPointNet(NormalsNetwork):
    """PointNet on features of neighbourhoods, averaged over the principal frames of each.

    Args:
        width: number of features of a point; the maxima are four times as many.
        patch: number of neighbours whose frames are taken.
        train_frames: how many of the four frames each point draws for a training step.

    Raises:
        ValueError: ``patch`` or ``train_frames`` is out of its range.
    """

    def __init__(self, width: int = 64, patch: int = 20, train_frames: int = 1) -> None:
        context = PointNetFeatures(width, width)
        super().__init__(LocalFrames(context, width, patch, train_frames))


class LocalFADGCNN(NormalsNetwork):
    """DGCNN on features of neighbourhoods, averaged over the principal frames of each.

    Args:
        width: number of features of a layer.
        layers: number of edge convolutions.
        neighbours: number of neighbours of each point.
        patch: number of neighbours whose frames are taken.
        train_frames: how many of the four frames each point draws for a training step. With fewer
            than all, maxima over neighbours are larger in training than those of their averages in
            evaluation, which then suffers.

    Raises:
        ValueError: ``neighbours``, ``patch`` or ``train_frames`` is out of its range.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        neighbours: int = 16,
        patch: int = 20,
        train_frames: int = 4,
    ) -> None:
        context = DGCNNFeatures(width, width, layers, neighbours)
        super().__init__(LocalFrames(context, width, patch, train_frames))


def largest_products(
    vectors: Float[Tensor, "*shape k 3"], weights: Float[Tensor, "c 3"]
) -> Float[Tensor, "*shape c"]:
    """Return the largest product of each row of weights with one of k vectors.

    The vector is found first, so that the backward pass does not see the others.
    """
    if vectors.numel() == 0:
        return vectors.new_zeros(*vectors.shape[:-2], len(weights))
    differentiated = torch.is_grad_enabled() and (vectors.requires_grad or weights.requires_grad)
    with torch.no_grad():
        largest = vectors[..., 0, :] @ weights.mT
        where = torch.zeros_like(largest, dtype=torch.long)
        for place in range(1, vectors.shape[-2]):
            product = vectors[..., place, :] @ weights.mT
            if differentiated:
                where = where.masked_fill(product > largest, place)
            largest = torch.maximum(largest, product)
    if not differentiated:
        return largest
    index = where[..., None].expand(*where.shape, 3)
    return (vectors.gather(-2, index) * weights).sum(-1)
