"""The convolution as a layer of its own, from clouds with features to the same."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.geometry._checks import check_count
from eqlib.position_orientation._arguments import (
    check_dtype,
    check_edge_scalars,
    check_type,
)
from eqlib.position_orientation._assembly import make_kernels
from eqlib.position_orientation.calibration import calibrate
from eqlib.position_orientation.convolution.attention import make_spatial
from eqlib.position_orientation.convolution.chirality import HandedTerm
from eqlib.position_orientation.convolution.fibre import OrientationConv
from eqlib.position_orientation.convolution.given import PairConv
from eqlib.position_orientation.edges.geometry import Geometry, make_geometry
from eqlib.position_orientation.grids import OrientationGrid, as_grid
from eqlib.position_orientation.options import EdgeOptions, KernelOptions
from eqlib.position_orientation.spaces.representations import EdgeScalars, Orientations
from eqlib.position_orientation.spaces.space import Space, as_space
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Representation,
    Scalar,
    Signature,
)
from eqlib.symmetry.group import Group

_EDGES, _KERNEL = EdgeOptions(), KernelOptions()


class PositionOrientationConv(nn.Module):
    r"""Separable group convolution of features on positions and orientations.

    .. math::
        y_{ioc} = \sum_{j \to i} K(r_{ij}, o)_c\, x_{joc}, \qquad
        z_{ipc} = \sum_o w_o F(o, p)_c\, y_{ioc} + h_{ipc}(y), \qquad
        u_{ipd} = \sum_c M_{dc} z_{ipc} + b_d

    with kernels K and F of all invariants of their arguments
    (:class:`~eqlib.position_orientation.Kernels`); on R3xS2 under SE(3) they would not tell left
    from right, and the term h does (:class:`HandedTerm`).

    A rigid motion of points and orientations together leaves the features as they are, to rounding;
    of the points alone, up to the coarseness of the grid.

    With ``orientations="given"`` each node has one orientation, such as the direction of a bond,
    and y is the sum over the other nodes of a kernel of complete invariants (:class:`PairConv`).

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        space: "R2", "R3", "R2xS1", "R3xS2", "SE2" or "SE3".
        orientations: size of the grid, or the grid, or "given".
        group: "SE(n)", the default, or "E(n)", whose reflections leave features as they are.
        edge_scalars: number of invariants of each edge that the kernels see.
        handed: leave out the term h where it is False.
        attention: number of heads with which edges are weighted (:class:`SpatialAttention`); 0 for
            none. Not for given orientations.
        neighbours: how many edges enter a node, about; see :class:`SpatialConv`.
        bias: learn b.
        kernel: options of the kernels.
        edges: options of the edges.

    Raises:
        TypeError: a number is not an integer, or options are of another type.
        ValueError: a number is too small, or the group does not act on the space.

    Source:
        Bekkers et al., Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in
        Position-Orientation Space, ICLR 2024. Edge scalars, the term h, the sine of the angle
        between orientations of the plane and invariants that are complete are added here.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        space: str | Space = "R3xS2",
        orientations: int | OrientationGrid | Literal["given"] = 20,
        group: str | Group | None = None,
        *,
        edge_scalars: int = 0,
        handed: bool = True,
        attention: int = 0,
        neighbours: float = 8.0,
        bias: bool = True,
        kernel: KernelOptions = _KERNEL,
        edges: EdgeOptions = _EDGES,
    ) -> None:
        super().__init__()
        check_count("channels_in", channels_in, 1)
        check_count("channels_out", channels_out, 1)
        check_count("attention", attention, 0)
        check_type("edges", edges, EdgeOptions)
        self.space, self.edges = as_space(space), edges
        self.group = self.space.group(group)
        self.given, self.edge_scalars = isinstance(orientations, str), edge_scalars
        self.attention = attention
        if isinstance(orientations, str):
            self.kernels, self.fibre, self.handed = None, None, None
            self.positions = _positions(self.space, orientations, attention)
            self.spatial: nn.Module = _pair_conv(
                channels_in, self.space, self.group, edge_scalars, neighbours, kernel
            )
        else:
            grid = as_grid(self.space, orientations)
            self.kernels = make_kernels(grid, self.group, edge_scalars, kernel)
            self.spatial = make_spatial(channels_in, self.kernels, attention, neighbours)
            self.fibre = OrientationConv(channels_in, self.kernels, bias=False)
            with_term = handed and self.kernels.handed
            self.handed = HandedTerm(channels_in, self.grid) if with_term else None
        self.mix = nn.Linear(channels_in, channels_out, bias)
        self.signature = _signature(self.space, self.group, self.given)

    @property
    def grid(self) -> OrientationGrid:
        """The orientations; where they are given, those of the positions alone, which have none."""
        return self.positions if self.kernels is None else self.kernels.grid

    def forward(
        self,
        features: Float[Tensor, "*nodes channels"],
        points: Float[Tensor, "*clouds n"],
        edge_index: Int[Tensor, "2 edges"] | None = None,
        edge_scalars: Tensor | None = None,
        orientations: Tensor | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
        mask: Bool[Tensor, "clouds points"] | None = None,
    ) -> Float[Tensor, "*nodes channels_out"]:
        """The convolved features u.

        Args:
            features: x, (nodes, grid, channels), or (nodes, channels) where orientations are given
                to the nodes; for clouds of one size (clouds, nodes, ...); in any unit.
            points: positions (nodes, n), or of clouds of one size (clouds, nodes, n), in any unit.
            edge_index: source and target of each edge, both in one graph; by default there is a
                search.
            edge_scalars: invariants of each edge; see :func:`make_geometry`.
            orientations: the grid, turned: for all graphs, or (graphs, ...) for each; by default as
                it is. Or the orientation of each node, (nodes, ...) or (clouds, nodes, ...). Unit
                vectors or rotations, which is checked on the CPU outside of compilers.
            batch: graph of each node, sorted; by default there is one graph.
            num_graphs: number of graphs; by default up to the last one that has a node.
            mask: nodes that there are, in clouds of one size; the others get zeros.

        Raises:
            TypeError: a dtype does not fit.
            ValueError: shapes do not fit, an input is missing, or an orientation is none.
        """
        lead = points.shape[:-1]
        self._check(features, edge_scalars, orientations, lead)
        geometry = self._geometry(
            points, edge_index, edge_scalars, orientations, batch, num_graphs, mask
        )
        flat = features.flatten(0, len(lead) - 1)
        if self.given and orientations is not None:
            orientations = orientations.flatten(0, len(lead) - 1)
        mixed = self.mix(self._convolved(flat, geometry, orientations))
        if geometry.mask is not None:
            present = geometry.mask.reshape(-1, *(1 for _ in mixed.shape[1:]))
            mixed = torch.where(present, mixed, 0.0)
        return mixed.unflatten(0, lead)

    def calibrate(self, **inputs: Any) -> None:
        """Rescale the weights of the convolutions, so that features keep their spread.

        Args:
            **inputs: those of a call, for a typical batch.

        Raises:
            ValueError: as in :func:`calibrate`.
        """
        calibrate(self, **inputs)

    def extra_repr(self) -> str:
        """Space, group and kind of orientations."""
        size = "given" if self.given else self.grid.size
        return f"{self.space.name}, {self.group!r}, orientations={size}"

    def _convolved(
        self, features: Tensor, geometry: Geometry, orientations: Tensor | None
    ) -> Tensor:
        if self.kernels is None or self.fibre is None:
            return self.spatial(features, geometry, orientations)
        y = self.spatial(features, geometry, self.kernels)
        z = self.fibre(y, self.kernels)
        return z if self.handed is None else z + self.handed(y, geometry, self.grid)

    def _geometry(
        self,
        points: Tensor,
        edge_index: Tensor | None,
        edge_scalars: Tensor | None,
        orientations: Tensor | None,
        batch: Tensor | None,
        num_graphs: int | None,
        mask: Tensor | None,
    ) -> Geometry:
        options = self.edges
        return make_geometry(
            points,
            self.grid,
            self.group,
            orientations=None if self.given else orientations,
            edge_index=edge_index,
            search=options.search,
            k=options.k,
            radius=options.radius,
            edge_scalars=edge_scalars,
            batch=batch,
            num_graphs=num_graphs,
            mask=mask,
            self_loops=options.self_loops,
            length=options.length,
            reach=options.reach,
            paired=False if self.given or self.attention else options.paired,
        )

    def _check(
        self,
        features: Tensor,
        edge_scalars: Tensor | None,
        orientations: Tensor | None,
        lead: torch.Size,
    ) -> None:
        own = () if self.given else (self.grid.size,)
        expected = (*lead, *own, self.mix.in_features)
        if features.shape != expected:
            raise ValueError(f"features has shape {tuple(features.shape)}; expected {expected}")
        check_dtype(features, self.mix.weight)
        check_edge_scalars(edge_scalars, self.edge_scalars)
        wanted = (*lead, *self.space.orientation_shape)
        if self.given and (orientations is None or orientations.shape != wanted):
            found = None if orientations is None else tuple(orientations.shape)
            raise ValueError(
                f"orientations has shape {found}; expected that of each node, {wanted}"
            )


def _pair_conv(
    channels: int,
    space: Space,
    group: Group,
    edge_scalars: int,
    neighbours: float,
    options: KernelOptions,
) -> PairConv:
    check_type("kernel", options, KernelOptions)
    return PairConv(
        channels,
        space,
        group,
        options.hidden,
        options.basis,
        options.degree,
        edge_scalars,
        neighbours=neighbours,
        softening=options.softening,
        implementation=options.implementation,
        gaussians=options.gaussians,
        waves=options.waves,
        extent=options.extent,
    )


def _positions(space: Space, orientations: str, attention: int) -> OrientationGrid:
    """Return the grid without orientations, for nodes that bring theirs."""
    if orientations != "given":
        raise ValueError(f"orientations is {orientations!r}; expected a size, a grid, or 'given'")
    if space.kind == "positions":
        raise ValueError(f"orientations is 'given', but {space.name} has none")
    if attention:
        raise ValueError(f"attention is {attention}; given orientations have none, expected 0")
    return OrientationGrid(f"R{space.dimension}", 1)


def _signature(space: Space, group: Group, given: bool) -> Signature:
    # Counted from the end, the axes of the nodes are those of clouds of one size too.
    features = Scalar() * NodeOrder(-2 if given else -3)
    orientations: Representation = Orientations(space)
    if given:
        orientations = orientations * NodeOrder(-1 - len(space.orientation_shape))
    return Signature(
        group * Permutations(),
        {
            "features": features,
            "points": Point() * NodeOrder(-2),
            "edge_index": EdgeIndex(),
            "edge_scalars": EdgeScalars(),
            "orientations": orientations,
            "batch": BatchIndex(),
            "mask": Scalar() * NodeOrder(-1),
        },
        features,
    )
