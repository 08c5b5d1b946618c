"""Linear coordinates in which the points of a cloud have no preferred direction."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.moments import check_cloud, count_graphs, positive
from eqlib.geometry import gather_nodes, segment_sum, symmetric_eigh
from eqlib.symmetry.group import Group

# Clouds are flat where one singular value is below this share of the largest one, or below one
# rounding error of the coordinates, which makes a thickness of about a third of it.
_SMALLEST_SHARE = 1e-7


class Whitening(NamedTuple):
    r"""Coordinates :math:`z = A^{-1}(x - t)` with :math:`\frac1n \sum_i z_i z_i^\top = I`, float64.

    ``root`` is :math:`A`, ``inverse`` is :math:`A^{-1}`, ``centroid`` is :math:`t`, and ``fourth``
    is :math:`\frac1n \sum_i |z_i|^2 z_i z_i^\top`. ``empty`` clouds have no points; of them the
    first two are orthogonal, and the others zero. Clouds that hold NaN or infinity have NaN, and so
    have flat ones where there was no check.
    """

    root: Float[Tensor, "*batch d d"]
    inverse: Float[Tensor, "*batch d d"]
    centroid: Float[Tensor, "*batch d"]
    fourth: Float[Tensor, "*batch d d"]
    empty: Bool[Tensor, "*batch"]


def whiten(
    points: Float[Tensor, "*clouds d"],
    group: Group,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
) -> Whitening:
    r"""White coordinates of each cloud, unique up to an orthogonal matrix.

    They are found in two steps, so that their errors grow with the condition number of the cloud
    and not with its square: the eigenvectors of the second moments give a first, constant
    :math:`A_0`, and Cholesky's factor of the second moments of :math:`A_0^{-1}(x - t)`, which is
    close to the identity, corrects it and has the derivatives.

    Args:
        points: clouds, dense or with ``batch`` ragged, as in :func:`pca_frames`.
        group: the centroid is zero for groups without translations.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs; by default up to the last one that has a node.

    Raises:
        ValueError: shapes do not fit, or a cloud is flat: its rank is below d. There is no such
            check under torch.compile and torch.export.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    check_cloud(points, group, mask, batch, num_graphs)
    clouds = _Clouds(points, mask, batch, num_graphs)
    size = positive(clouds.mean(clouds.rows.detach().abs().amax(-1, keepdim=True)))
    clouds.divide(size)
    centroid = torch.zeros_like(clouds.mean(clouds.rows))
    square = clouds.mean(clouds.rows.detach().square().sum(-1, keepdim=True))
    if group.translations:
        centroid = centroid + clouds.centre()
    first, first_inverse, exists = _first_root(clouds, square, points.dtype, group)
    clouds.multiply(torch.where(exists, first_inverse, 0.0))
    if group.translations:  # again, as the sum over many nodes, one by one, is rounded
        centroid = centroid + (first @ clouds.centre()[..., None])[..., 0]
    eye = torch.eye(points.shape[-1], dtype=torch.float64, device=points.device)
    second = torch.where(exists, clouds.moment(), eye)
    factor = torch.linalg.cholesky_ex(second).L
    inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    clouds.multiply(inverse)
    scale = size[..., None]
    return Whitening(
        root=scale * first @ factor,
        inverse=inverse @ first_inverse / scale,
        centroid=size * centroid,
        fourth=clouds.moment(clouds.rows.square().sum(-1, keepdim=True)),
        empty=clouds.empty,
    )


class _Clouds:
    """Points of a batch in float64, with sums over each cloud; what a mask excludes is zero."""

    def __init__(
        self, points: Tensor, mask: Tensor | None, batch: Tensor | None, num_graphs: int | None
    ) -> None:
        self.batch, self.num_graphs = batch, num_graphs
        rows = points.double()
        if batch is not None:
            self.num_graphs = count_graphs(batch, num_graphs)
            rows = rows.unsqueeze(1).flatten(1, -2)
        self.exists = None if mask is None else mask[..., None]
        self.rows = self._without_padding(rows)
        ones = torch.ones_like(self.rows[..., :1].detach())
        self.count = self._sum(self._without_padding(ones))
        self.empty = self.count[..., 0] == 0

    def mean(self, values: Tensor) -> Float[Tensor, "*batch k"]:
        """Mean over the points of each cloud, 0 without points."""
        return self._sum(values) / self.count.clamp(min=1)

    def centre(self) -> Float[Tensor, "*batch d"]:
        """Move each cloud by its mean, which is returned."""
        mean = self.mean(self.rows)
        self.rows = self._without_padding(self.rows - self._at_points(mean)[..., None, :])
        return mean

    def divide(self, size: Float[Tensor, "*batch 1"]) -> None:
        """Divide the points of each cloud by a number."""
        self.rows = self.rows / self._at_points(size)[..., None, :]

    def multiply(self, matrices: Float[Tensor, "*batch d d"]) -> None:
        """Multiply the points of each cloud by a matrix."""
        self.rows = self.rows @ self._at_points(matrices).mT

    def moment(self, weights: Tensor | float = 1.0) -> Float[Tensor, "*batch d d"]:
        """Mean of the weighted outer products of the points with themselves."""
        products = (weights * self.rows).mT @ self.rows
        if self.batch is not None:
            products = segment_sum(products, self.batch, self.num_graphs or 0)
        return products / self.count.clamp(min=1)[..., None]

    def _sum(self, values: Tensor) -> Tensor:
        values = values.sum(-2)
        if self.batch is None:
            return values
        return segment_sum(values, self.batch, self.num_graphs or 0)

    def _at_points(self, values: Tensor) -> Tensor:
        return values if self.batch is None else gather_nodes(values, self.batch)

    def _without_padding(self, rows: Tensor) -> Tensor:
        return rows if self.exists is None else torch.where(self.exists, rows, 0.0)


def _first_root(
    clouds: _Clouds, square: Tensor, dtype: torch.dtype, group: Group
) -> tuple[Tensor, Tensor, Tensor]:
    """A constant root of the second moments, its inverse, and which clouds have both.

    ``square`` is the mean square of the points before they were centred.
    """
    with torch.no_grad():
        values, vectors = symmetric_eigh(clouds.moment())
        values = values.clamp(min=0)
        rounding = torch.finfo(dtype).eps ** 2 * square
        smallest = torch.maximum(_SMALLEST_SHARE**2 * values[..., -1:], rounding)
        rank = (values > smallest).sum(-1)
        finite, full = values[..., -1].isfinite(), rank == values.shape[-1]
        if not torch.compiler.is_compiling():
            _require_full(rank, finite & ~full & ~clouds.empty, group)
        exists = (finite & full)[..., None, None]
        spread = torch.where(exists[..., 0], values, 1.0).sqrt()[..., None, :]
        usable = exists | clouds.empty[..., None, None]
        root = torch.where(usable, vectors * spread, torch.nan)
        inverse = torch.where(usable, (vectors / spread).mT, torch.nan)
    return root, inverse, exists


def _require_full(rank: Tensor, flat: Tensor, group: Group) -> None:
    if not bool(flat.any()):
        return
    index = flat.nonzero()[0].tolist()
    name = "" if not index else f" {index[0] if len(index) == 1 else tuple(index)}"
    raise ValueError(
        f"points: cloud{name} has rank {int(rank[tuple(index)])}, but frames of {group!r} need "
        f"points of rank {group.dimension} ({int(flat.sum())} of {flat.numel()} clouds have less); "
        "leave these clouds out, or use a group of isometries such as "
        f"{'E' if group.translations else 'O'}({group.dimension}), which has frames for every cloud"
    )
