"""A network of position-orientation layers, from clouds with scalars and vectors to the same."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.position_orientation._arguments import check_edge_scalars
from eqlib.position_orientation._assembly import (
    Cloud,
    check_options,
    count_graphs,
    make_kernels,
    make_signature,
    make_turns,
    mix_passes,
    pool_nodes,
)
from eqlib.position_orientation.calibration import calibrate
from eqlib.position_orientation.convolution.block import InteractionLayer
from eqlib.position_orientation.edges.geometry import Geometry, make_geometry
from eqlib.position_orientation.exact import bring_back, express
from eqlib.position_orientation.fields.heads import Counts, Embedding, Readout, vector_products
from eqlib.position_orientation.grids import OrientationGrid, as_grid
from eqlib.position_orientation.options import EdgeOptions, KernelOptions, TurnOptions
from eqlib.position_orientation.spaces.space import Space, as_space
from eqlib.symmetry.group import Group

_EDGES, _KERNEL, _TURNS = EdgeOptions(), KernelOptions(), TurnOptions()


class Prediction(NamedTuple):
    """What a network returns: scalars and vectors of each node, or of each graph.

    ``gap`` (no unit, 0 to 1) tells for each graph how well the frame is determined that turns the
    grid: 1 where none is needed, 0 where none is used.
    """

    scalars: Float[Tensor, "rows scalars"]
    vectors: Float[Tensor, "rows vectors n"]
    gap: Float[Tensor, "graphs"]


class Encoding(NamedTuple):
    """Features of each node after the last layer, on the grid, and the frames that turn the grid.

    Orientation o of the grid stands for R o, with the matrix R of the graph in ``rotations``, which
    is None for the plain grid.
    """

    features: Float[Tensor, "nodes grid channels"]
    rotations: Float[Tensor, "graphs n n"] | None
    gap: Float[Tensor, "graphs"]


class PositionOrientationNet(nn.Module):
    r"""Separable group convolutions on positions and orientations.

    Scalars and vectors of the nodes are lifted to functions :math:`x_i(o)` of an orientation, mixed
    by :class:`InteractionLayer`, and read out: scalars are means over the orientations, vectors
    means of :math:`n\, s(o)\, o`. Spaces of positions have no orientation: there vectors go in by
    their lengths and by their products with each other and with offsets, and come out as sums of
    offsets and of those that went in.

    Args:
        scalars_in: number of scalars of each node.
        vectors_in: number of vectors of each node.
        scalars_out: number of scalars that come out.
        vectors_out: number of vectors that come out.
        space: "R2", "R3", "R2xS1", "R3xS2", "SE2" or "SE3".
        orientations: size of the grid, or the grid.
        exact: turn the grid by a frame of each cloud, which makes the network equivariant to
            rounding. Otherwise it is so up to the coarseness of the grid, and smooth.
        channels: width of the features.
        layers: number of layers.
        group: "SE(n)", the default, or "E(n)", whose reflections leave scalars as they are.
        edge_scalars: number of scalars of each edge.
        expansion: width of the hidden layer of a block, in units of ``channels``.
        layer_scale: initial factor of what a layer adds; None: none.
        pool: None gives outputs of the nodes; "mean" or "sum" those of the graphs.
        readout: "mean" over the layers, or the "last" only.
        kernel: options of the kernels.
        edges: options of the edges.
        turns: options of the frames, for ``exact``.
        attention: number of heads by which layers weigh their neighbours; 0 for none.
        recompute: trade time for memory in the blocks.

    Raises:
        ValueError: an option has another value, or the group does not act on the space.
        TypeError: a number is not an integer, or options are of another type.

    Note:
        In exact mode outputs jump where the gap of a cloud falls below the threshold, and their
        gradients take frames for constants unless ``TurnOptions(detach=False)``; see
        :class:`GridTurns`. Where a smooth energy matters, take ``exact=False``.

    Source:
        Bekkers et al., Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in
        Position-Orientation Space, ICLR 2024. The turned grid, edge scalars, the handed term and
        the vectors of spaces of positions are added here.
    """

    def __init__(
        self,
        scalars_in: int,
        vectors_in: int = 0,
        scalars_out: int = 1,
        vectors_out: int = 0,
        space: str | Space = "R3xS2",
        orientations: int | OrientationGrid = 20,
        exact: bool = True,
        channels: int = 64,
        layers: int = 4,
        group: str | Group | None = None,
        *,
        edge_scalars: int = 0,
        expansion: int = 4,
        layer_scale: float | None = None,
        pool: Literal["mean", "sum"] | None = None,
        readout: Literal["mean", "last"] = "mean",
        kernel: KernelOptions = _KERNEL,
        edges: EdgeOptions = _EDGES,
        turns: TurnOptions = _TURNS,
        attention: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.counts = Counts(scalars_in, vectors_in, scalars_out, vectors_out, edge_scalars)
        self.edges, self.pool, self.attention = edges, pool, attention
        check_options(self.counts, edges, channels, layers, attention, pool, readout)
        grid = as_grid(as_space(space), orientations)
        self.kernels = make_kernels(grid, group, self.counts.on_edges(grid), kernel)
        self.turns = make_turns(self.kernels, self.counts, turns, exact)
        self.embedding = Embedding(grid, self.counts, channels)
        layer = partial(InteractionLayer, channels, self.kernels, layer_scale, expansion)
        self.layers = nn.ModuleList(
            layer(recompute=recompute, attention=attention) for _ in range(layers)
        )
        read = layers if readout == "mean" else 1
        self.readout = Readout(grid, self.counts, channels, read, kernel.hidden)
        self._settle()
        self.register_load_state_dict_post_hook(_settle_loaded)

    def forward(
        self,
        points: Float[Tensor, "nodes n"],
        scalars: Float[Tensor, "nodes scalars"] | None = None,
        vectors: Float[Tensor, "nodes vectors n"] | None = None,
        edge_index: Int[Tensor, "2 edges"] | None = None,
        edge_scalars: Float[Tensor, "edges edge_scalars"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Prediction:
        """Scalars and vectors of each node, or of each graph.

        Args:
            points: positions, in any unit of length.
            scalars: of each node, in any unit; needed if the network has some.
            vectors: of each node, in any unit; needed if the network has some.
            edge_index: source and target of each edge, both in one graph, without loops; by default
                there is a search.
            edge_scalars: of each edge of ``edge_index``; needed if the network has some.
            batch: graph of each node, sorted; None is one graph.
            num_graphs: number of graphs; by default up to the last one that has a node.

        Raises:
            ValueError: shapes do not fit, or an input is missing.
            TypeError: a dtype does not fit.
        """
        cloud, num_graphs = self._cloud(
            points, scalars, vectors, edge_index, edge_scalars, batch, num_graphs
        )
        passes, weights, gap = self._passes(cloud, points, num_graphs)
        found = [self._evaluate(cloud, rotations) for rotations in passes]
        new_scalars, new_vectors = mix_passes(found, weights, batch)
        if self.pool is not None:
            mean = self.pool == "mean"
            new_scalars = pool_nodes(new_scalars, batch, num_graphs, mean)
            new_vectors = pool_nodes(new_vectors, batch, num_graphs, mean)
        return Prediction(new_scalars, new_vectors, gap)

    def encode(
        self,
        points: Float[Tensor, "nodes n"],
        scalars: Float[Tensor, "nodes scalars"] | None = None,
        vectors: Float[Tensor, "nodes vectors n"] | None = None,
        edge_index: Int[Tensor, "2 edges"] | None = None,
        edge_scalars: Float[Tensor, "edges edge_scalars"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Encoding:
        """The features after the last layer, for read-outs of one's own.

        Args:
            points: as for a call, as are all others.
            scalars: of each node.
            vectors: of each node.
            edge_index: source and target of each edge.
            edge_scalars: of each edge.
            batch: graph of each node.
            num_graphs: number of graphs.

        Raises:
            ValueError: as for a call, or the network takes several passes, whose features belong to
                grids that are turned differently.
            TypeError: as for a call.
        """
        cloud, num_graphs = self._cloud(
            points, scalars, vectors, edge_index, edge_scalars, batch, num_graphs
        )
        passes, _, gap = self._passes(cloud, points, num_graphs)
        if len(passes) > 1:
            raise ValueError(
                f"encode: this network takes {len(passes)} passes; a grid that changes of signs "
                "map to itself (kind='auto'), without blend, needs one"
            )
        features, _, _ = self._features(cloud, passes[0])
        return Encoding(features, passes[0], gap)

    def calibrate(self, **inputs: Any) -> None:
        """Rescale the weights of the convolutions, so that features keep their variance.

        Args:
            inputs: those of a call, for a typical batch.
        """
        calibrate(self, **inputs)

    def extra_repr(self) -> str:
        """Space, group and numbers of scalars and vectors."""
        numbers = ", ".join(f"{name}={count}" for name, count in self.counts._asdict().items())
        return f"{self.kernels.grid.space.name}, {self.kernels.group!r}, {numbers}"

    @property
    def _n(self) -> int:
        return self.kernels.grid.space.dimension

    @property
    def _oriented(self) -> bool:
        return self.kernels.grid.space.kind != "positions"

    def _settle(self) -> None:
        """Find out what follows from the grid."""
        kernels = self.kernels
        if self.turns is not None:
            self.turns.settle(kernels.grid.sign_symmetric(kernels.group))
        self.signature = make_signature(kernels, self.counts, self.turns, self.pool is not None)

    def _geometry(
        self,
        points: Tensor,
        vectors: Tensor,
        edge_index: Tensor | None,
        edge_scalars: Tensor | None,
        batch: Tensor | None,
        num_graphs: int,
    ) -> Geometry:
        """The edges, in spaces of positions with the products of vectors among their scalars."""
        options = self.edges
        geometry = make_geometry(
            points,
            self.kernels.grid,
            self.kernels.group,
            edge_index=edge_index,
            search=options.search,
            k=options.k,
            radius=options.radius,
            edge_scalars=edge_scalars,
            batch=batch,
            num_graphs=None if batch is None else num_graphs,
            self_loops=options.self_loops,
            length=options.length,
            reach=options.reach,
            paired=options.paired if self._oriented and not self.attention else False,
        )
        if self._oriented or not self.counts.vectors_in:
            return geometry
        products = vector_products(vectors, geometry)
        return geometry._replace(scalars=torch.cat([geometry.scalars, products], -1))

    def _cloud(
        self,
        points: Tensor,
        scalars: Tensor | None,
        vectors: Tensor | None,
        edge_index: Tensor | None,
        edge_scalars: Tensor | None,
        batch: Tensor | None,
        num_graphs: int | None,
    ) -> tuple[Cloud, int]:
        """The inputs, checked, with the edges, and the number of graphs."""
        if points.ndim != 2 or points.shape[1] != self._n:
            raise ValueError(
                f"points has shape {tuple(points.shape)}; expected (nodes, {self._n}), clouds one "
                "after the other and told apart by batch"
            )
        check_edge_scalars(edge_scalars, self.counts.edge_scalars)
        scalars = self._given("scalars", scalars, points, (self.counts.scalars_in,))
        vectors = self._given("vectors", vectors, points, (self.counts.vectors_in, self._n))
        num_graphs = count_graphs(batch, num_graphs)
        geometry = self._geometry(points, vectors, edge_index, edge_scalars, batch, num_graphs)
        return Cloud(scalars, vectors, geometry), num_graphs

    def _passes(
        self, cloud: Cloud, points: Tensor, num_graphs: int
    ) -> tuple[Sequence[Tensor | None], Tensor, Tensor]:
        """The axes that turn the grid in each pass, the weights of the passes, and the gap."""
        if self.turns is None:
            gap = points.new_full((num_graphs,), 0.0 if self._oriented else 1.0)
            return [None], torch.ones_like(gap)[None], gap
        scalars, vectors, geometry = cloud
        count = None if geometry.batch is None else num_graphs
        turns = self.turns(points, scalars, vectors, geometry.batch, count)
        return turns.rotations.unbind(0), turns.weights, turns.gap

    def _features(self, cloud: Cloud, rotations: Tensor | None) -> tuple[Tensor, Tensor, Cloud]:
        """Features of the last layer, the sum of what the heads read, and the turned cloud.

        Seen from a turned grid, offsets and vectors have the components that they have in its axes,
        seen from the grid itself: so all graphs share the kernels of one grid.
        """
        scalars, vectors, geometry = cloud
        batch, grid, heads = geometry.batch, self.kernels.grid, self.readout.heads
        graph = None if batch is None else batch[geometry.target]
        geometry = geometry._replace(offsets=express(geometry.offsets, rotations, graph))
        vectors = express(vectors, rotations, batch)
        features = self.embedding(scalars, vectors, grid)
        total = features.new_zeros(*features.shape[:-1], self.readout.width)
        skipped = len(self.layers) - len(heads)
        for index, layer in enumerate(self.layers):
            features = layer(features, geometry, self.kernels)
            if index >= skipped:
                total = total + heads[index - skipped](features) / len(heads)
        return features, total, Cloud(scalars, vectors, geometry)

    def _evaluate(self, cloud: Cloud, rotations: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scalars and vectors of each node, on the grid turned by some axes."""
        features, total, turned = self._features(cloud, rotations)
        grid = self.kernels.grid
        scalars, vectors = self.readout(total, features, turned.vectors, turned.geometry, grid)
        return scalars, bring_back(vectors, rotations, cloud.geometry.batch)

    def _given(
        self, name: str, value: Tensor | None, points: Tensor, shape: tuple[int, ...]
    ) -> Tensor:
        """An input, checked; empty if the network has none of its kind."""
        dtype = self.embedding.linear.weight.dtype
        if value is None and shape[0] == 0:
            value = points.new_zeros(points.shape[0], *shape)
        rows = points.shape[0]  # not len(points), which compilers take for a constant
        if value is None or value.shape != (rows, *shape):
            found = "nothing" if value is None else f"shape {tuple(value.shape)}"
            expected = ", ".join(map(str, (rows, *shape)))
            raise ValueError(f"{name}: expected shape ({expected}), got {found}")
        for given, tensor in (("points", points), (name, value)):
            if tensor.dtype != dtype:
                raise TypeError(
                    f"{given}: got {tensor.dtype}, expected the network's {dtype}; "
                    f"convert it with {given}.to({dtype})"
                )
        return value


def _settle_loaded(net: PositionOrientationNet, keys: object) -> None:
    """Follow the grid that was loaded, which may be of another kind."""
    net._settle()
