"""How far a partition is from the rigid parts of a body, and what that costs."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from eqlib.frames.piecewise.cells import list_cells
from eqlib.frames.signatures import components_of
from eqlib.geometry import gather_nodes, segment_sum
from eqlib.symmetry import Element, Scalar, Signature
from eqlib.symmetry.arguments import represented_outputs, results_by_name
from eqlib.symmetry.group import moving_factor
from eqlib.symmetry.representations import Components


class Straddling(NamedTuple):
    """How much of a partition straddles the parts of a body; shares from 0 to 1, in expectation.

    ``at_points`` is the weight at each point of cells that straddle parts, and ``points`` its mean.
    ``cells`` is the share of cells with points that straddle, ``edges`` that of the edges inside
    cells that join two parts, and ``cut`` that of all edges that are in no cell.
    """

    at_points: Float[Tensor, "*points"]
    points: float
    cells: float
    edges: float
    cut: float

    def error_bound(self, size: float) -> float:
        r"""Largest mean error at the points, :math:`2 M s` with the share s of points.

        Args:
            size: M, the largest size of an output at a point, such as ``layer.bound``.
        """
        return 2 * size * self.points


def straddling(
    cells: Shaped[Tensor, "*cells"],
    parts: Shaped[Tensor, "*parts"],
    points: Float[Tensor, "*clouds d"],
    edge_index: Int[Tensor, "2 edges"] | None = None,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    cut: float = 0.0,
) -> Straddling:
    r"""The share of a partition that straddles the parts of a body.

    A cell c lies in one part with the probability :math:`P_c = \sum_p \prod_{i \in c} q_{ip}`,
    where :math:`q_{ip}` is that of point i to be of part p; known parts have zeros and ones. Point
    i is in cells that straddle with the weight :math:`\sum_c w_{ic} (1 - P_c)`.

    Args:
        cells: labels or weights, as for :class:`PiecewiseFrameAverage`.
        parts: the part of each point, or the probability of each part at each point, independent
            from point to point.
        points: clouds: a dense batch, or with ``batch`` a ragged one.
        edge_index: edges, between rows of points of all clouds.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.
        cut: as for :class:`PiecewiseFrameAverage`.

    Returns:
        Shares; zero where there are no points, cells or edges.

    Raises:
        ValueError: shapes do not fit, or a label is negative.
        TypeError: labels are neither int64 nor floating-point.

    Source:
        Atzmon et al., Approximately Piecewise E(3) Equivariant Point Networks, ICLR 2024: there the
        expected error is bounded by the uncertainty of the parts and the probability that cells are
        not inside parts, times the size of the outputs.
    """
    members = list_cells(cells, points, mask, batch, num_graphs, cut)
    known = list_cells(parts, points, mask, batch, num_graphs)
    chance = points.new_zeros(known.slot.shape, dtype=torch.float64)
    chance[known.point, known.cell % max(known.per_cloud, 1)] = known.weight.detach().double()
    total = members.total
    logs = segment_sum(chance.log()[members.point].clamp(min=-1e30), members.cell, total)
    pure = logs.exp().sum(-1).clamp(max=1)
    weight = members.weight.detach().double()
    at_points = segment_sum(
        weight * (1 - gather_nodes(pure, members.cell)), members.point, len(chance)
    )
    exists = segment_sum(weight, members.point, len(chance)) > 0
    filled = torch.bincount(members.cell, minlength=total) > 0
    edges, left_out = 0.0, 0.0
    if edge_index is not None:
        inner, edge = members.members_of_edges(edge_index)
        source, target = members.point[inner]
        edges = _mean(1 - (chance[source] * chance[target]).sum(-1))
        left_out = 1 - len(edge.unique()) / max(edge_index.shape[1], 1)
    return Straddling(
        at_points.reshape(points.shape[:-1]),
        _mean(at_points[exists]),
        _mean(1 - pure[filled]),
        edges,
        left_out if edge_index is not None and edge_index.shape[1] else 0.0,
    )


def piecewise_errors(
    fn: Callable[..., object],
    inputs: Mapping[str, Tensor],
    parts: Int[Tensor, "*points"],
    signature: Signature | None = None,
    samples: int = 4,
    reach: float = 1.0,
    generator: torch.Generator | None = None,
    **others: object,
) -> dict[str, Float[Tensor, "samples *points"]]:
    r"""Measure how far the outputs at points are from following the motion of each part.

    .. math:: \lVert f(\rho_{in}(g) x)_i - \rho_{out}(g_{p(i)}) f(x)_i \rVert

    Args:
        fn: any callable that takes the inputs by name.
        inputs: tensors by name, with a row per point; all parts move at once.
        parts: the part of each point.
        signature: group and representations; by default ``fn.signature``.
        samples: number of motions of all parts.
        reach: largest length of a translation, in the unit of the points.
        generator: source of the motions; by default a new one with a fixed seed.
        others: further arguments of ``fn``, which do not move: cells, masks, edges.

    Returns:
        The errors of each output, in its unit; norms over its components.

    Raises:
        ValueError: an output has no row per point.
        TypeError: there is no signature.
    """
    signature = getattr(fn, "signature", None) if signature is None else signature
    if not isinstance(signature, Signature):
        raise TypeError(f"signature: expected a Signature, got {signature!r}; pass one")
    generator = generator or torch.Generator().manual_seed(0)
    count = int(parts.max()) + 1 if parts.numel() else 0
    group = moving_factor(signature.group)
    reference = represented_outputs(results_by_name(fn(**inputs, **others), signature), signature)
    errors: dict[str, list[Tensor]] = {name: [] for name in reference}
    for _ in range(samples):
        motions = group.sample(generator, max(count, 1), reach=reach)
        moved = {
            name: _moved(value, components_of(signature.inputs[name]), motions, parts)
            if name in signature.inputs
            else value
            for name, value in inputs.items()
        }
        results = represented_outputs(results_by_name(fn(**moved, **others), signature), signature)
        for name, (values, kind) in results.items():
            component = components_of(kind)
            expected = _moved(reference[name][0].double(), component, motions, parts)
            errors[name].append(_norm(values.double() - expected, parts))
    return {name: torch.stack(found) for name, found in errors.items()}


def _moved(values: Tensor, kind: Components, motions: Element, parts: Tensor) -> Tensor:
    """Values at points after the motions of their parts."""
    if isinstance(kind, Scalar):
        return values
    if values.shape[: parts.ndim] != parts.shape:
        raise ValueError(
            f"parts: expected a part for each row, shape {tuple(parts.shape)}, of a tensor of "
            f"shape {tuple(values.shape)}"
        )
    result = torch.zeros_like(values)
    for part in range(len(motions.matrix) if motions.matrix is not None else 0):
        here = parts == part
        result[here] = kind.act(motions[part], values[here])
    return result


def _norm(difference: Tensor, parts: Tensor) -> Tensor:
    """Norm over all axes that are not those of the points."""
    return difference.reshape(*parts.shape, -1).norm(dim=-1)


def _mean(shares: Tensor) -> float:
    return float(shares.mean()) if shares.numel() else 0.0
