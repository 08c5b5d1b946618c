"""The parts of a network, made from its options, and what is done around them."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.geometry import gather_nodes, segment_sum
from eqlib.geometry._checks import check_count
from eqlib.position_orientation._arguments import check_type
from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.exact import GridTurns
from eqlib.position_orientation.fields.heads import Counts
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.position_orientation.options import EdgeOptions, KernelOptions, TurnOptions
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Representation,
    Scalar,
    Signature,
    Vector,
)
from eqlib.symmetry.group import Group


class Cloud(NamedTuple):
    """What the layers take."""

    scalars: Float[Tensor, "nodes scalars"]
    vectors: Float[Tensor, "nodes vectors n"]
    geometry: Geometry


def make_kernels(
    grid: OrientationGrid, group: str | Group | None, edge_scalars: int, options: KernelOptions
) -> Kernels:
    """The kernels that options describe.

    Args:
        grid: orientations.
        group: that of the layer or network.
        edge_scalars: number of scalars that the edges will have.
        options: of the kernels.

    Raises:
        TypeError: they are of another type.
    """
    check_type("kernel", options, KernelOptions)
    return Kernels(
        grid,
        group,
        options.hidden,
        options.basis,
        options.degree,
        edge_scalars,
        options.softening,
        options.implementation,
        options.gaussians,
        options.waves,
        options.extent,
    )


def make_turns(
    kernels: Kernels, counts: Counts, options: TurnOptions, exact: bool
) -> GridTurns | None:
    """How the grid is turned, None if it is not; spaces of positions have none that could be.

    Args:
        kernels: with grid and group.
        counts: of scalars and vectors.
        options: of the frames.
        exact: whether the network is to be exact.

    Raises:
        ValueError: the moment has scalars or vectors, and the network none.
        TypeError: the options are of another type.
    """
    check_type("turns", options, TurnOptions)
    if not exact or kernels.grid.space.kind == "positions":
        return None
    for name, count in (("scalars", counts.scalars_in), ("vectors", counts.vectors_in)):
        if name in options.moment.split("+") and not count:
            raise ValueError(
                f"moment: {options.moment!r} has {name}, but {name}_in is 0; leave them out"
            )
    return GridTurns(kernels.group, kernels.grid.sign_symmetric(kernels.group), options)


def make_signature(
    kernels: Kernels, counts: Counts, turns: GridTurns | None, pooled: bool
) -> Signature:
    """What acts on the inputs and outputs of a network.

    Args:
        kernels: with grid and group.
        counts: of scalars and vectors.
        turns: how the grid is turned.
        pooled: whether outputs are those of graphs.
    """
    nodes = NodeOrder(0)
    inputs: dict[str, Representation] = {"points": Point() * nodes}
    if counts.scalars_in:
        inputs["scalars"] = Scalar() * nodes
    if counts.vectors_in:
        inputs["vectors"] = Vector() * nodes
    inputs["edge_index"] = EdgeIndex()
    if counts.edge_scalars:
        inputs["edge_scalars"] = Scalar()
    inputs["batch"] = BatchIndex()
    outputs: dict[str, Representation] = {"scalars": Scalar(), "vectors": Vector()}
    if not pooled:
        outputs = {name: kind * nodes for name, kind in outputs.items()}
    positions = kernels.grid.space.kind == "positions"
    return Signature(
        kernels.group * Permutations(),
        inputs,
        {**outputs, "gap": Scalar()},
        exact=positions or (turns is not None and turns.is_exact),
    )


def count_graphs(batch: Tensor | None, num_graphs: int | None) -> int:
    """The number of graphs.

    Args:
        batch: graph of each node, sorted; None is one graph.
        num_graphs: the number, if it is known.

    Raises:
        ValueError: there is more than one graph, and no batch.
    """
    if batch is None:
        if num_graphs not in (None, 1):
            raise ValueError(
                f"num_graphs: without batch there is one graph, got {num_graphs}; give batch"
            )
        return 1
    if num_graphs is not None:
        return num_graphs
    return int(batch.max()) + 1 if batch.numel() else 0


def mix_passes(
    passes: list[tuple[Tensor, Tensor]],
    weights: Float[Tensor, "passes graphs"],
    batch: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The mean of scalars and vectors over all passes, with the weights of each graph.

    Args:
        passes: scalars and vectors of each.
        weights: their sum over the passes is one.
        batch: graph of each node.
    """
    if len(passes) == 1:
        return passes[0]
    weights = weights.to(passes[0][0].dtype)
    weights = weights if batch is None else gather_nodes(weights.mT, batch).mT
    scalars, vectors = (torch.stack(parts) for parts in zip(*passes, strict=True))
    return (weights[..., None] * scalars).sum(0), (weights[..., None, None] * vectors).sum(0)


def pool_nodes(
    values: Float[Tensor, "nodes *features"], batch: Tensor | None, num_graphs: int, mean: bool
) -> Float[Tensor, "graphs *features"]:
    """Sums or means over the nodes of each graph; zero for a graph without nodes.

    Args:
        values: of the nodes.
        batch: graph of each node.
        num_graphs: number of graphs.
        mean: whether means are wanted.
    """
    if batch is None:
        total = values.sum(0, keepdim=True)
        return total / max(values.shape[0], 1) if mean else total
    total = segment_sum(values, batch, num_graphs)
    if not mean:
        return total
    count = segment_sum(values.new_ones(values.shape[0]), batch, num_graphs).clamp(min=1)
    return total / count.reshape(-1, *(1 for _ in values.shape[1:]))


def check_options(
    counts: Counts,
    edges: EdgeOptions,
    channels: int,
    layers: int,
    attention: int,
    pool: str | None,
    readout: str,
) -> None:
    """Refuse options that do not exist.

    Args:
        counts: of scalars and vectors.
        edges: options of the edges.
        channels: of the features.
        layers: their number.
        attention: number of heads.
        pool: what is made of the nodes.
        readout: which layers are read.

    Raises:
        ValueError: an option has another value.
        TypeError: a number is not an integer, or options are of another type.
    """
    check_type("edges", edges, EdgeOptions)
    for name, count in counts._asdict().items():
        check_count(name, count, 0)
    check_count("channels", channels, 1)
    check_count("layers", layers, 1)
    check_count("attention", attention, 0)
    if pool not in (None, "mean", "sum"):
        raise ValueError(f"pool: expected None, 'mean' or 'sum', got {pool!r}")
    if readout not in ("mean", "last"):
        raise ValueError(f"readout: expected 'mean' or 'last', got {readout!r}")
