"""What all networks share: their inputs, the checks on them, and the symmetry of the task."""

from itertools import pairwise
from math import prod

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from eqlib.geometry import safe_direction
from eqlib.symmetry import SE, NodeOrder, Permutations, Point, Signature, Vector

SIGNATURE = Signature(
    SE(3) * Permutations(),
    inputs={"points": Point() * NodeOrder(-2)},
    outputs=Vector() * NodeOrder(-2),
)
"""That of the task; networks without frames have only its translations and permutations."""


class NormalsNetwork(nn.Module):
    """Map a cloud of surface points to an outward unit normal at each of them.

    Args:
        vectors: maps centred clouds (*batch, nodes, 3) to vectors along the normals.
    """

    signature = SIGNATURE

    def __init__(self, vectors: nn.Module) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, points: Float[Tensor, "*batch nodes 3"]) -> Float[Tensor, "*batch nodes 3"]:
        """Predict the normals.

        Args:
            points: clouds in the unit of the training data: their radius (root mean square of the
                distances from the centroid) is 1.

        Raises:
            TypeError: ``points`` differs in dtype from the network's weights.
            ValueError: the shape or the device does not fit.
        """
        weight = next(self.parameters())
        if points.ndim < 2 or points.shape[-1] != 3:
            raise ValueError(
                f"points: got shape {tuple(points.shape)}, expected (..., nodes, 3): clouds in rows"
            )
        if points.dtype != weight.dtype:
            raise TypeError(
                f"points: got {points.dtype}, expected the network's {weight.dtype}; "
                f"convert it with points.to({weight.dtype})"
            )
        if points.device != weight.device:
            raise ValueError(f"points: on {points.device}, expected the network's {weight.device}")
        nodes = max(points.shape[-2], 1)
        centred = points - points.sum(-2, keepdim=True) / nodes
        flat = centred.reshape(prod(points.shape[:-2]), *points.shape[-2:])
        return safe_direction(self.vectors(flat)).reshape(points.shape)


class Pointwise(nn.Module):
    """Linear maps of every point's features, each followed by a normalisation and a ReLU.

    Args:
        widths: of the features, from the input on.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.norm = nn.ModuleList(nn.LayerNorm(after) for after in widths[1:])

    def forward(self, features: Float[Tensor, "*shape before"]) -> Float[Tensor, "*shape after"]:
        """Return the features of the last layer."""
        for linear, norm in zip(self.linear, self.norm, strict=True):
            features = functional.relu(norm(linear(features)))
        return features


class Fusion(nn.Module):
    """Features of every point from those it has and the largest ones of its cloud.

    Args:
        local: number of features of a point.
        wide: number of those whose maxima are taken.
        width: number of features that come out.
    """

    def __init__(self, local: int, wide: int, width: int) -> None:
        super().__init__()
        self.local = nn.Linear(local, 2 * width)
        self.overall = nn.Linear(wide, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)
        self.mix = Pointwise(2 * width, width)

    def forward(
        self, local: Float[Tensor, "batch nodes local"], wide: Float[Tensor, "batch nodes wide"]
    ) -> Float[Tensor, "batch nodes width"]:
        """Return the fused features."""
        if wide.shape[1] == 0:
            return self.mix(self.local(local))
        overall = self.overall(wide.amax(1, keepdim=True))
        return self.mix(functional.relu(self.norm(self.local(local) + overall)))


class Vectors(nn.Module):
    """A vector for each point of a cloud, read off its features.

    Args:
        features: maps features of points, here their coordinates, and the points to features.
        width: number of the features that come out.
    """

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.out = nn.Linear(width, 3)

    def forward(self, points: Float[Tensor, "batch nodes 3"]) -> Float[Tensor, "batch nodes 3"]:
        """Return the vectors."""
        return self.out(self.features(points, points))
