r"""Frames of the clouds by which the grid of orientations is turned: equivariance to rounding.

A network :math:`\Phi` on a grid :math:`G` is made of inner products, so that :math:`\Phi(R X; R G)
= R\,\Phi(X; G)`, and does not depend on the order of :math:`G`. With the principal axes :math:`U`
of the cloud :math:`X`, which rotate with it but have arbitrary signs, :math:`\Phi(X; U G)` is
therefore equivariant if sign changes take :math:`G` to itself, and otherwise its average over them.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.frames import Frames, pca_frames
from eqlib.frames.constructions.moments import cloud_moments
from eqlib.frames.sampling import Draws, draw_frames, number_of
from eqlib.geometry import gather_nodes, segment_mean
from eqlib.position_orientation.options import TurnOptions
from eqlib.symmetry import SO, O, as_group
from eqlib.symmetry.group import Group

# A gap of fewer rounding errors than this is none: the axes are noise.
_ROUNDING_ERRORS = 64


class Turns(NamedTuple):
    """By which matrices the grid of each graph is turned, pass by pass, and how passes are mixed.

    ``weights`` of the passes of a graph sum to one. ``gap`` (no unit, 0 to 1) tells how well the
    axes are determined.
    """

    rotations: Float[Tensor, "passes graphs n n"]
    weights: Float[Tensor, "passes graphs"]
    gap: Float[Tensor, "graphs"]


class GridTurns(nn.Module):
    r"""Frames by which the grid of orientations of each cloud is turned.

    Args:
        group: SE(n) or E(n).
        symmetric: whether the signs of the axes take the grid to itself.
        options: how the frames are made.

    Note:
        Where two eigenvalues of the moment are equal the axes are arbitrary. Below the threshold
        the network is that of the unturned grid: its error of equivariance is the plain one, that
        of a grid which is not fine enough, and no larger.
    """

    def __init__(self, group: str | Group, symmetric: bool, options: TurnOptions) -> None:
        super().__init__()
        self.group = as_group(group)
        self.options = options
        self._draws = Draws(1, number_of(options.generator))
        self.settle(symmetric)

    def settle(self, symmetric: bool) -> None:
        """Decide on the passes.

        Args:
            symmetric: whether the signs of the axes take the grid to itself.
        """
        self.signs = self.options.signs
        if self.signs == "auto":
            self.signs = "one" if symmetric else "full"
        self.is_exact = symmetric or self.signs != "one"

    def forward(
        self,
        points: Float[Tensor, "nodes n"],
        scalars: Float[Tensor, "nodes channels"] | None = None,
        vectors: Float[Tensor, "nodes vectors n"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Turns:
        """The turns of all clouds.

        Args:
            points: in any unit of length.
            scalars: of each node; needed if the moment has them.
            vectors: of each node; needed if the moment has them.
            batch: graph of each node, sorted; None is one graph.
            num_graphs: number of graphs.

        Raises:
            ValueError: the moment needs what is not given, or shapes do not fit.
        """
        frames = self._frames(points, scalars, vectors, batch, num_graphs)
        drawn = self.signs == "stochastic" and self.training
        if drawn:
            frames = draw_frames(frames, self._draws)
        rotations, gap = frames.frames.movedim(-3, 0), frames.gap
        if self.signs == "one":
            rotations = rotations[:1]
        return self._mixed(rotations, gap, points.dtype)

    def extra_repr(self) -> str:
        """Group and options."""
        return f"group={self.group!r}, signs={self.signs!r}, options={self.options!r}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which draws from a generator of its own."""
        super().__setstate__(state)
        self._draws = Draws(1, number_of(self.options.generator))

    def _frames(
        self,
        points: Tensor,
        scalars: Tensor | None,
        vectors: Tensor | None,
        batch: Tensor | None,
        num_graphs: int | None,
    ) -> Frames:
        """All principal frames of each cloud."""
        parts = self.options.moment.split("+")
        if len(parts) == 1:
            frames = pca_frames(points, self.group, None, batch, num_graphs, self.options.detach)
        else:
            named = {"vectors": vectors, "scalars": scalars}
            extras = {name: _given(name, named[name]) for name in parts[1:]}
            cloud = _joint_cloud(points, extras, batch, num_graphs)
            turning = (O if self.group.reflections else SO)(points.shape[-1])
            cloud = cloud.flatten(0, 1) if batch is None else cloud
            frames = pca_frames(cloud, turning, None, batch, num_graphs, self.options.detach)
        if batch is not None:
            return frames
        return frames._replace(
            frames=frames.frames.unsqueeze(0),
            centroid=frames.centroid.unsqueeze(0),
            gap=frames.gap.unsqueeze(0),
        )

    def _mixed(
        self, rotations: Float[Tensor, "passes graphs n n"], gap: Tensor, dtype: torch.dtype
    ) -> Turns:
        """The passes with turned grid, and where the gap is closed that without."""
        threshold = self.options.threshold
        if threshold is None:
            threshold = _ROUNDING_ERRORS * torch.finfo(dtype).eps
        plain = torch.eye(rotations.shape[-1], dtype=rotations.dtype, device=rotations.device)
        determined = (gap > threshold)[:, None, None]
        rotations = torch.where(determined, rotations, plain)
        passes, graphs = rotations.shape[:2]
        weights = gap.new_full((passes, graphs), 1 / passes)
        if self.options.blend:
            share = _ramp(gap / threshold - 1)
            weights = torch.cat([weights * share, (1 - share)[None]])
            rotations = torch.cat([rotations, plain.expand(1, graphs, -1, -1)])
        return Turns(rotations, weights, gap)


def express(
    vectors: Float[Tensor, "rows *channels n"],
    rotations: Float[Tensor, "graphs n n"] | None,
    graph: Int[Tensor, "rows"] | None,
) -> Float[Tensor, "rows *channels n"]:
    r"""Vectors in the axes of the frame of their graph, :math:`U^\top v`.

    Seen from the turned grid they are what these are, seen from the grid itself.

    Args:
        vectors: one or more for each row.
        rotations: axes in columns; None leaves the vectors as they are.
        graph: of each row; None if there is one graph.
    """
    return _turned(vectors, rotations, graph)


def bring_back(
    vectors: Float[Tensor, "rows *channels n"],
    rotations: Float[Tensor, "graphs n n"] | None,
    graph: Int[Tensor, "rows"] | None,
) -> Float[Tensor, "rows *channels n"]:
    r"""Vectors out of the axes of the frame of their graph, :math:`U v`.

    Args:
        vectors: one or more for each row.
        rotations: axes in columns; None leaves the vectors as they are.
        graph: of each row; None if there is one graph.
    """
    return _turned(vectors, None if rotations is None else rotations.mT, graph)


def _turned(vectors: Tensor, rotations: Tensor | None, graph: Tensor | None) -> Tensor:
    """Rows times the matrix of their graph."""
    if rotations is None:
        return vectors
    rotations = rotations.to(vectors.dtype)
    matrices = rotations if graph is None else gather_nodes(rotations, graph)
    if vectors.ndim == 2:
        return (vectors.unsqueeze(1) @ matrices).squeeze(1)
    return vectors @ matrices


def _given(name: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(f"{name}: the moment of the frames has them, but they were not given")
    return value


def _joint_cloud(
    points: Float[Tensor, "nodes n"],
    extras: dict[str, Tensor],
    batch: Int[Tensor, "nodes"] | None,
    num_graphs: int | None,
) -> Float[Tensor, "nodes channels n"]:
    """Points about their centroid in units of their radius, with what joins them in the moment."""
    n = points.shape[-1]
    moments = cloud_moments(points, as_group(f"SE({n})"), None, batch, num_graphs)
    centred = points.double() - _rows(moments.centroid, batch)
    cloud = _scaled(centred, _rows(moments.radius.unsqueeze(-1), batch)).unsqueeze(1)
    parts = [cloud]
    if "scalars" in extras:
        scalars = extras["scalars"].double().unsqueeze(-1)
        parts.append(cloud * (1 + 0.5 * scalars / (1 + scalars.square()).sqrt()))
    if "vectors" in extras:
        vectors = extras["vectors"].double()
        square = vectors.square().sum((-1, -2)).unsqueeze(-1)
        mean = _mean(square, batch, len(moments.centroid)).unsqueeze(-1)
        size = torch.where(mean == 0, 0.0, torch.where(mean == 0, 1.0, mean).sqrt())
        parts.append(_scaled(vectors, size))
    return torch.cat(parts, dim=1)


def _mean(values: Tensor, batch: Tensor | None, graphs: int) -> Tensor:
    """The mean over the nodes of each graph, for these nodes."""
    if batch is None:
        return values.mean(0, keepdim=True)
    return gather_nodes(segment_mean(values, batch, graphs), batch)


def _rows(values: Tensor, batch: Tensor | None) -> Tensor:
    """Values of each graph, or of the one graph, for its nodes."""
    return values if batch is None else gather_nodes(values, batch)


def _scaled(vectors: Tensor, size: Tensor) -> Tensor:
    """Vectors in units of a size; zero where it is."""
    return torch.where(size == 0, 0.0, vectors / torch.where(size == 0, 1.0, size))


def _ramp(x: Tensor) -> Tensor:
    """From 0 to 1 as x does, with slope zero at both ends."""
    x = x.clamp(0, 1)
    return x.square() * (3 - 2 * x)
