"""Averages over any frames, straight from their definition, and more clouds with symmetry."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.frames import Frames, RaggedFrames, minimal_frames, pca_frames, weighted_frames
from eqlib.symmetry import as_group
from tests.frames.clouds import DEGENERATE, mlp


def isotropic(points: int, seed: int) -> Tensor:
    """A random cloud, centred, whose variances are equal in all directions."""
    rng = torch.Generator().manual_seed(seed)
    cloud = torch.randn(points, 3, dtype=torch.float64, generator=rng)
    cloud = cloud - cloud.mean(0)
    values, axes = torch.linalg.eigh(cloud.mT @ cloud)
    return cloud @ (axes / values.sqrt()) * points**0.5


_SQUARE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])

SYMMETRIC = {
    **DEGENERATE,
    "isotropic, no symmetry": isotropic(9, 1),
    "largest variances equal": isotropic(8, 2) * torch.tensor([1.0, 1.0, 0.3]),
    "smallest variances equal": isotropic(8, 3) * torch.tensor([1.0, 1.0, 2.0]),
    "square": torch.nn.functional.pad(_SQUARE, (0, 1)),
    "line with a speck": torch.cat([DEGENERATE["collinear"], torch.tensor([[1.0, 2.0, 3.1]])]),
}
PLANAR = {
    "no point": torch.zeros(0, 2),
    "one point": torch.tensor([[0.3, -2.0]]),
    "coincident": torch.tensor([[0.1, 0.2]]).expand(5, 2),
    "collinear": torch.tensor([[1.0, 2.0]]) * torch.tensor([[-1.0], [-0.5], [2.0]]),
    "square": _SQUARE,
    "isotropic, no symmetry": isotropic(7, 4)[:, :2],
}
FUNCTIONS = {"pca": pca_frames, "minimal": minimal_frames, "weighted": weighted_frames}


class Averages(NamedTuple):
    """Outputs of every kind, for each point and, in the last row, for the cloud."""

    scalar: Tensor
    pseudoscalar: Tensor
    vector: Tensor
    point: Tensor


class Network:
    """A nonlinear function of clouds, without any symmetry but that of permutations."""

    def __init__(self, dimension: int = 3, dtype: torch.dtype = torch.float64) -> None:
        self.sizes = [1, 1, dimension, dimension]
        self.features = mlp(dimension, 6).to(dtype)
        self.outputs = mlp(12, sum(self.sizes)).to(dtype)

    def __call__(self, points: Tensor) -> tuple[Tensor, ...]:
        features = self.features(points).tanh()
        pooled = features.sum(-2, keepdim=True) / max(1, points.shape[-2])
        rows = torch.cat([features, pooled], dim=-2)
        return self.outputs(torch.cat([rows, pooled.expand_as(rows)], -1)).split(self.sizes, -1)


def listed(frames: Frames | RaggedFrames) -> RaggedFrames:
    """The same frames as a list."""
    if isinstance(frames, RaggedFrames):
        return frames
    count, width = frames.frames.shape[-3], frames.frames.shape[-1]
    clouds = frames.gap.numel()
    return RaggedFrames(
        frames.frames.reshape(-1, width, width),
        torch.arange(clouds).repeat_interleave(count),
        frames.frames.new_full((clouds * count,), 1 / count),
        frames.centroid,
        frames.gap,
        None if frames.inverse is None else frames.inverse.reshape(-1, width, width),
    )


def average(network: Network, points: Tensor, frames: Frames | RaggedFrames) -> Averages:
    """The average of a network over the frames of clouds (batch, n, d)."""
    frames = listed(frames)
    matrices, cloud = frames.frames, frames.cloud
    inverse = matrices.mT if frames.inverse is None else frames.inverse
    centred = points - frames.centroid[:, None]
    scalar, pseudoscalar, vector, point = network(centred[cloud] @ inverse.mT)
    handedness = torch.linalg.det(matrices.detach()).sign()  # zero if a similarity's radius is

    def mean(values: Tensor) -> Tensor:
        values = frames.weights[:, None, None] * values
        return values.new_zeros(len(points), *values.shape[1:]).index_add(0, cloud, values)

    return Averages(
        mean(scalar),
        mean(pseudoscalar * handedness[:, None, None]),
        mean(vector @ matrices.mT),
        mean(point @ matrices.mT) + frames.centroid[:, None],
    )


def averaged(mode: str, group: str, network: Network, points: Tensor, **options) -> Averages:
    """The average over the frames of one mode."""
    return average(network, points, FUNCTIONS[mode](points, group, **options))


def errors(first: Averages, second: Averages) -> Tensor:
    """Largest difference of any entry, for each cloud of a batch."""
    differences = [(a - b).abs().flatten(1).amax(1) for a, b in zip(first, second, strict=True)]
    return torch.stack(differences).amax(0).detach()


def equivariance(
    mode: str, group: str, points: Tensor, rng: torch.Generator, reach: float = 10.0, **options
) -> float:
    """Largest error for one cloud (n, d) over a few elements of a group and permutations."""
    kind = as_group(group)
    network = Network(points.shape[-1], points.dtype)
    motion = kind.sample(rng, 6, reach=reach)
    order = torch.stack([torch.randperm(len(points), generator=rng) for _ in range(6)])
    shift = 0.0 if motion.translation is None else motion.translation[:, None]
    images = (points.double() @ motion.matrix.mT + shift).take_along_dim(order[..., None], 1)
    there = averaged(mode, group, network, images.to(points.dtype), **options)
    here = averaged(mode, group, network, points[None], **options)
    scalar, pseudoscalar, vector, point = (
        torch.cat([field[0][order], field[:, -1:].expand(6, 1, -1)], 1).double() for field in here
    )
    handedness = torch.linalg.det(motion.matrix).sign()[:, None, None]
    # No points have their centroid at zero wherever they are.
    shift = shift if len(points) else 0.0
    expected = Averages(
        scalar,
        pseudoscalar * handedness,
        vector @ motion.matrix.mT,
        point @ motion.matrix.mT + shift,
    )
    return float(errors(there, expected).max())
