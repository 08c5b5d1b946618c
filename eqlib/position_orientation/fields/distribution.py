"""Distributions of an orientation: densities on the circle, the sphere or among rotations."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import safe_direction
from eqlib.harmonics import gauss_legendre_grid
from eqlib.position_orientation._arguments import check_orientations
from eqlib.position_orientation.double_buffers import DoubleBuffers
from eqlib.position_orientation.exact import bring_back
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.position_orientation.spaces.space import Space
from eqlib.symmetry.group import Group

_ANGLES = 360  # of the circle
_DEGREE = 63  # of the quadrature on the sphere, 2,048 points
_RINGS = 10  # of the quadrature of rotations, 4,000 of them
_STEPS = 40  # of the ascent to a mode


class OrientationDistribution(nn.Module):
    r"""The density of an orientation, given features on a grid.

    .. math::
        p(q) = \frac{e^{s(q)}}{\int e^{s(g)}\,dg}, \qquad s(q) = \sum_o w_o \sum_c k_c(o, q)\,f_{oc}

    The kernel :math:`k` is a network of the invariants of two orientations, as that of the
    convolutions on the fibre, but evaluated at any query q. The integral is a Gauss-Legendre sum on
    the sphere, and one of equal weights on the circle; densities are per radian, per steradian, and
    for rotations per unit of a volume of :math:`\pi^2` in all.

    Args:
        channels: of the features.
        grid: orientations of the features; it states the space.
        group: "SE(n)", the default, or "E(n)".
        hidden: width of the network of the kernel.
        axial: give q and -q the same density, for axes without a direction.

    Raises:
        ValueError: the space has no orientations, or ``axial`` is asked of rotations.

    Note:
        The queries, the integral and the mode turn with ``rotations``, the frames of the clouds
        that :meth:`PositionOrientationNet.encode` returns: distributions are then as equivariant as
        the features. The integral has more digits than the density needs as long as this has no
        peak narrower than about five degrees (a degree on the circle, twenty for rotations).

    Source:
        For densities of rotations up to a normalisation, Murphy et al., Implicit-PDF:
        Non-Parametric Representation of Probability Distributions on the Rotation Manifold, ICML
        2021; their volume of the group of rotations is used.
    """

    def __init__(
        self,
        channels: int,
        grid: OrientationGrid,
        group: str | Group | None = None,
        hidden: int = 64,
        axial: bool = False,
    ) -> None:
        super().__init__()
        self.space, self.group = grid.space, grid.space.group(group)
        if self.space.kind == "positions":
            raise ValueError(f"grid: {self.space.name} has no orientations to be distributed")
        if axial and self.space.kind == "frames":
            raise ValueError("axial: the negative of a rotation is none; use R2xS1 or R3xS2")
        self.axial, self.channels = axial, channels
        self.grid, self.dense = grid, _DenseGrid(self.space)
        one = grid.orientations[:1].detach()
        invariants = self.space.fibre_invariants(one, one, self.group).shape[-1]
        self.kernel = nn.Sequential(
            nn.Linear(3 * invariants, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(
        self,
        features: Float[Tensor, "graphs grid channels"],
        queries: Float[Tensor, "*queries"],
        rotations: Float[Tensor, "graphs n n"] | None = None,
    ) -> Float[Tensor, "graphs queries"]:
        r"""The logarithm of the density, :math:`\log p(q)`, at any orientations.

        Args:
            features: of each graph, on the grid.
            queries: orientations, of each graph (graphs, queries, ...); unit vectors or rotations,
                which is checked on the CPU outside of compilers.
            rotations: the axes by which the grid of each graph is turned; None is not turned.

        Raises:
            ValueError: the shape of the features or of the queries does not fit, or a query is no
                orientation.
        """
        self._check(features)
        self.space.check_orientations("queries", queries)
        check_orientations("queries", queries, self.space)
        if queries.shape[0] != features.shape[0]:
            raise ValueError(
                f"queries has shape {tuple(queries.shape)}; expected {features.shape[0]} rows, one "
                "for each graph of features"
            )
        score = self._score(features, self._inside(queries, rotations))
        return score - self._normaliser(features).unsqueeze(-1)

    def nll(
        self,
        features: Float[Tensor, "graphs grid channels"],
        targets: Float[Tensor, "*targets"],
        rotations: Float[Tensor, "graphs n n"] | None = None,
    ) -> Float[Tensor, "graphs"]:
        r"""The loss of one target per graph, :math:`-\log p(q^*)`.

        Args:
            features: as for :meth:`forward`.
            targets: one orientation for each graph.
            rotations: as for :meth:`forward`.

        Raises:
            ValueError: as for :meth:`forward`.
        """
        self.space.check_orientations("targets", targets)
        check_orientations("targets", targets, self.space)
        return -self(features, targets.unsqueeze(1), rotations).squeeze(1)

    @torch.no_grad()
    def mode(
        self,
        features: Float[Tensor, "graphs grid channels"],
        rotations: Float[Tensor, "graphs n n"] | None = None,
    ) -> Float[Tensor, "*modes"]:
        """The most likely orientation of each graph: the best of a dense grid, after an ascent.

        Args:
            features: as for :meth:`forward`.
            rotations: as for :meth:`forward`.

        Note:
            Without derivatives. Where the density has several highest points it is one of them.
        """
        self._check(features)
        dense = self.dense.points.to(features.dtype)
        point = dense[self._score(features, dense).argmax(-1)].unsqueeze(1)
        best = self._score(features, point)
        angle = torch.full_like(best, self.dense.spacing)
        for _ in range(_STEPS):
            candidate = self._moved(point, self._gradient(features, point), angle)
            score = self._score(features, candidate)
            better = score > best
            chosen = better.reshape(better.shape + (1,) * (point.ndim - 2))
            point, best = torch.where(chosen, candidate, point), torch.where(better, score, best)
            angle = torch.where(better, angle, angle / 2)
        return self._outside(point, rotations).squeeze(1)

    def mean_direction(
        self,
        features: Float[Tensor, "graphs grid channels"],
        rotations: Float[Tensor, "graphs n n"] | None = None,
    ) -> Float[Tensor, "graphs n"]:
        """The direction of the mean of the distribution; zero where the mean is.

        Args:
            features: as for :meth:`forward`.
            rotations: as for :meth:`forward`.

        Raises:
            ValueError: the orientations are rotations, or axes, whose mean is zero.
        """
        if self.space.kind == "frames" or self.axial:
            raise ValueError("mean_direction: rotations and axes have none; take the mode")
        self._check(features)
        dense = self.dense.points.to(features.dtype)
        score = self._score(features, dense) + self.dense.weights.to(features.dtype).log()
        return bring_back(safe_direction(score.softmax(-1) @ dense), rotations, None)

    def _check(self, features: Tensor) -> None:
        """Raise unless features are those of graphs on the grid."""
        size, channels = self.grid.size, self.channels
        if features.ndim != 3 or features.shape[1:] != (size, channels):
            raise ValueError(
                f"features has shape {tuple(features.shape)}; expected (graphs, {size}, {channels})"
            )

    def _score(self, features: Tensor, queries: Tensor) -> Float[Tensor, "graphs queries"]:
        """The logarithm of the density up to a constant; queries seen from the grid."""
        score = self._plain_score(features, queries)
        if self.axial:
            return (score + self._plain_score(features, -queries)) / 2
        return score

    def _plain_score(self, features: Tensor, queries: Tensor) -> Float[Tensor, "graphs queries"]:
        orientations = self.grid.orientations.to(features.dtype)
        shared = queries.ndim == orientations.ndim
        invariants = self.space.fibre_invariants(
            orientations if shared else orientations.expand(len(queries), *orientations.shape),
            queries,
            self.group,
        )
        powers = torch.cat([invariants, invariants.square(), invariants**3], -1)
        kernel = self.kernel(powers)
        weighted = features * self.grid.weights.to(features.dtype)[:, None]
        if shared:
            return torch.einsum("goc,oqc->gq", weighted, kernel)
        return torch.einsum("goc,goqc->gq", weighted, kernel)

    def _normaliser(self, features: Tensor) -> Float[Tensor, "graphs"]:
        """The logarithm of the integral."""
        dense, weights = (
            part.to(features.dtype) for part in (self.dense.points, self.dense.weights)
        )
        return torch.logsumexp(self._score(features, dense) + weights.log(), -1)

    def _inside(self, queries: Tensor, rotations: Tensor | None) -> Tensor:
        """Queries as seen from the grid."""
        if rotations is None:
            return queries
        if self.space.kind == "frames":
            return rotations.to(queries.dtype).mT.unsqueeze(1) @ queries
        return queries @ rotations.to(queries.dtype)

    def _outside(self, points: Tensor, rotations: Tensor | None) -> Tensor:
        """What is seen from the grid, in space."""
        return points if rotations is None else self._inside(points, rotations.mT)

    def _gradient(self, features: Tensor, point: Tensor) -> Tensor:
        """The gradient of the score in the point."""
        with torch.enable_grad():
            variable = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                self._score(features.detach(), variable).sum(), variable
            )
        return gradient

    def _moved(self, point: Tensor, gradient: Tensor, angle: Tensor) -> Tensor:
        """The point after a turn by an angle towards the gradient."""
        if self.space.kind == "frames":
            twist = point.mT @ gradient
            twist = torch.stack([(twist - twist.mT)[..., i, j] for i, j in _TWISTS], -1)
            return point @ _rotations(safe_direction(twist) * angle.unsqueeze(-1))
        tangent = gradient - (gradient * point).sum(-1, keepdim=True) * point
        angle = angle.unsqueeze(-1)
        return safe_direction(point * angle.cos() + safe_direction(tangent) * angle.sin())


_TWISTS = ((2, 1), (0, 2), (1, 0))


class _DenseGrid(DoubleBuffers):
    """Quadrature of the density, which changes of signs map to itself."""

    points: Tensor
    weights: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        points, weights, self.spacing = _tables(space)
        self.register_buffer("points", points.clone(), persistent=False)
        self.register_buffer("weights", weights.clone(), persistent=False)


@lru_cache
def _tables(space: Space) -> tuple[Tensor, Tensor, float]:
    """Points, weights and the distance of neighbours in radians."""
    if space.kind == "frames":
        return _spread_rotations()
    if space.dimension == 2:
        angles = 2 * math.pi * torch.arange(_ANGLES, dtype=torch.float64, device="cpu") / _ANGLES
        weights = torch.full_like(angles, 2 * math.pi / _ANGLES)
        return torch.stack([angles.cos(), angles.sin()], -1), weights, 2 * math.pi / _ANGLES
    grid = gauss_legendre_grid(_DEGREE)
    return grid.points, grid.weights, 2 * math.pi / _DEGREE


def _spread_rotations() -> tuple[Tensor, Tensor, float]:
    """Rotations by Euler angles, with weights that sum to the volume."""
    cosines, weights = np.polynomial.legendre.leggauss(_RINGS)
    count = 2 * _RINGS
    angles = 2 * math.pi * torch.arange(count, dtype=torch.float64, device="cpu") / count
    about = torch.stack([torch.zeros_like(angles), torch.zeros_like(angles), angles], -1)
    tilt = torch.zeros(_RINGS, 3, dtype=torch.float64, device="cpu")
    tilt[:, 1] = torch.from_numpy(np.arccos(cosines))
    turns, tilts = _rotations(about), _rotations(tilt)
    points = turns[:, None, None] @ tilts[:, None] @ turns
    shares = torch.from_numpy(weights / 2 / count**2)[:, None].expand(count, -1, count)
    return points.flatten(0, 2), math.pi**2 * shares.flatten(), 2 * math.pi / count


def _rotations(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotations about vectors by their lengths."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return torch.linalg.matrix_exp(rows.unflatten(-1, (3, 3)))
