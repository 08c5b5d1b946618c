"""Piecewise frame averaging: every part of a body moves on its own."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck

from eqlib.frames import FrameAverage, PiecewiseFrameAverage, piecewise_errors, straddling
from eqlib.geometry import gather_nodes, knn_graph, segment_mean, segment_sum
from eqlib.symmetry import (
    EdgeIndex,
    Point,
    Pseudovector,
    Scalar,
    Signature,
    Vector,
    as_group,
)
from tests.frames.clouds import DEGENERATE, mlp
from tests.frames.piecewise.jointed import articulated, boxes, voronoi

EXACT = 1e-9  # relative to boxes of length 2, whose joints are up to 10 apart


class Pooling(nn.Module):
    """A network on points and the mean of their cloud, without symmetry."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.embed, self.update = mlp(3, 8), mlp(11, outputs)

    def forward(self, points: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        mean = segment_mean(self.embed(points), batch, num_graphs)
        return self.update(torch.cat([points, gather_nodes(mean, batch)], -1))


class Messages(nn.Module):
    """Messages along edges, with outputs of every kind at the points and one at the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = mlp(8, 8), mlp(12, 10)

    def forward(
        self,
        points: Tensor,
        velocities: Tensor,
        edge_length: Tensor,
        height: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        num_graphs: int,
    ) -> dict[str, Tensor]:
        source, target = edge_index
        ends = [points[source] - points[target], velocities[source], edge_length]
        messages = self.message(torch.cat([*ends, edge_length.square()], -1))
        summed = segment_sum(messages, target, len(points))
        features = torch.cat([summed, points, gather_nodes(height, batch)], -1)
        flow, spin, density, moved = self.update(features).split([3, 3, 1, 3], -1)
        return {
            "flow": flow,
            "spin": spin,
            "density": density,
            "moved": moved,
            "centre": segment_mean(points, batch, num_graphs),
        }


SIGNATURE = Signature(
    as_group("SE(3)"),
    inputs={
        "points": Point(),
        "velocities": Vector(),
        "edge_length": Scalar(),
        "height": Scalar(),
        "edge_index": EdgeIndex(),
    },
    outputs={
        "flow": Vector(),
        "spin": Pseudovector(),
        "density": Scalar(),
        "moved": Point(),
        "centre": Point(),
    },
)
LEVELS = {"height": "graph", "centre": "graph"}


def of_points(signature: Signature) -> Signature:
    """The signature without outputs of cells."""
    outputs = {name: kind for name, kind in signature.outputs.items() if name != "centre"}
    return Signature(signature.group, signature.inputs, outputs)


def body(rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    """What moves, the part of each point, and what does not move, of jointed boxes."""
    points, parts = boxes(rng, 4, 40)
    points = articulated(rng, points, parts)
    edge_index = knn_graph(points, 6).edge_index
    length = (points[edge_index[0]] - points[edge_index[1]]).norm(dim=-1, keepdim=True)
    velocities = torch.randn(160, 3, dtype=torch.float64, generator=rng)
    fixed = {"edge_index": edge_index, "edge_length": length, "height": torch.ones(1).double()}
    return {"points": points, "velocities": velocities}, parts, fixed


@pytest.mark.parametrize("mode", ["full", "minimal", "weighted"])
@pytest.mark.parametrize("group", ["SE(3)", "E(3)", "SE(3) about z"])
def test_outputs_follow_the_true_parts(group, mode, rng):
    points, parts = boxes(rng, 4, 50)
    layer = PiecewiseFrameAverage(Pooling(), group, mode=mode)
    inputs = {"points": articulated(rng, points, parts)}
    error = piecewise_errors(layer, inputs, parts, cells=parts, reach=10.0, generator=rng)["output"]
    assert error.max() < EXACT
    # control: one frame for the whole body does not follow its parts
    whole = torch.zeros_like(parts)
    error = piecewise_errors(layer, inputs, parts, cells=whole, reach=10.0, generator=rng)["output"]
    assert error.max() > 1e-2


def test_cells_finer_than_the_parts_are_exact_too(rng):
    points, parts = boxes(rng, 3, 60)
    cells = 4 * parts + voronoi(rng, points, 4)
    layer = PiecewiseFrameAverage(Pooling())
    error = piecewise_errors(layer, {"points": points}, parts, cells=cells, generator=rng)
    assert error["output"].max() < EXACT
    assert straddling(cells, parts, points).points == 0


def test_fields_edges_and_outputs_of_cells_follow_the_parts(rng):
    inputs, parts, fixed = body(rng)
    layer = PiecewiseFrameAverage(Messages(), signature=SIGNATURE, levels=LEVELS)
    outputs = layer(**inputs, **fixed, cells=parts)
    centres = segment_mean(inputs["points"], parts, 4)
    torch.testing.assert_close(outputs["centre"], centres)

    def at_points(**named: Tensor) -> dict[str, Tensor]:
        results = layer(**named)
        results.pop("centre")
        return results

    signature = of_points(SIGNATURE)
    errors = piecewise_errors(
        at_points, inputs, parts, signature, generator=rng, cells=parts, **fixed
    )
    assert max(float(error.max()) for error in errors.values()) < EXACT
    # control: the network without frames, on the same cells
    bare = {name: network_error(name, inputs, parts, fixed) for name in signature.outputs}
    assert min(bare.values()) > 1e-2, bare


def network_error(
    name: str, inputs: dict[str, Tensor], parts: Tensor, fixed: dict[str, Tensor]
) -> float:
    source, target = fixed["edge_index"]
    inside = parts[source] == parts[target]
    edges = {
        "edge_index": fixed["edge_index"][:, inside],
        "edge_length": fixed["edge_length"][inside],
        "height": fixed["height"].expand(4, 1),
    }
    network = Messages()

    def output(**named: Tensor) -> dict[str, Tensor]:
        return {name: network(**named, **edges, batch=parts, num_graphs=4)[name]}

    signature = Signature(SIGNATURE.group, SIGNATURE.inputs, {name: SIGNATURE.outputs[name]})
    return float(piecewise_errors(output, inputs, parts, signature)[name].max())


@pytest.mark.parametrize("mode", ["full", "weighted"])
def test_the_error_falls_with_the_share_that_straddles_and_keeps_its_bound(mode, rng):
    points, parts = boxes(rng, 4, 100)
    points = articulated(rng, points, parts)
    layer = PiecewiseFrameAverage(Pooling(), mode=mode, bound=0.5)
    shares, means = [], []
    for count in (1, 8, 8, 32, 32, 128, 128, 320):
        cells = voronoi(rng, points, count)
        found = straddling(cells, parts, points)
        error = piecewise_errors(layer, {"points": points}, parts, cells=cells, generator=rng)
        error = error["output"]
        assert (error <= 2 * layer.bound * found.at_points + EXACT).all()
        assert error.mean() <= found.error_bound(layer.bound)
        shares.append(found.points)
        means.append(float(error.mean()))
    share, mean = torch.tensor(shares), torch.tensor(means)
    assert torch.corrcoef(torch.stack([share, mean]))[0, 1] > 0.8
    for finer in range(3, 8, 2):
        assert share[finer : finer + 2].mean() < share[finer - 2 : finer].mean()
        assert mean[finer : finer + 2].mean() < mean[finer - 2 : finer].mean()
    assert mean[-1] < 0.3 * mean[0]


@pytest.mark.parametrize("mode", ["full", "weighted"])
def test_one_hot_weights_are_labels(mode, rng):
    points, parts = boxes(rng, 3, 20)
    layer = PiecewiseFrameAverage(Pooling(), mode=mode)
    weights = torch.nn.functional.one_hot(parts, 5).double()
    torch.testing.assert_close(layer(points, cells=weights), layer(points, cells=parts))


def test_soft_cells_inside_the_parts_are_exact_and_others_are_not(rng):
    points, parts = boxes(rng, 3, 20)
    logits = torch.randn(60, 6, dtype=torch.float64, generator=rng)
    inside = torch.arange(6) // 2 == parts[:, None]
    layer = PiecewiseFrameAverage(Pooling(), bound=0.5)
    for weights, exact in (
        (logits.masked_fill(~inside, -torch.inf).softmax(-1), True),
        (logits.softmax(-1), False),
    ):
        found = straddling(weights, parts, points)
        error = piecewise_errors(layer, {"points": points}, parts, cells=weights, generator=rng)
        error = error["output"]
        assert (error.max() < EXACT) == exact
        assert (error <= 2 * layer.bound * found.at_points + EXACT).all()
        assert (found.points == 0) == exact


def test_a_cut_leaves_each_point_in_few_cells_without_a_jump(rng):
    points, parts = boxes(rng, 2, 20)
    weights = torch.randn(40, 3, dtype=torch.float64, generator=rng).softmax(-1)
    layer = PiecewiseFrameAverage(Pooling(), cut=0.2)
    outputs = layer(points, cells=weights)
    assert straddling(weights, parts, points, cut=0.2).cells > 0
    changed = weights.clone()
    changed[0] = torch.tensor([0.2 + 1e-9, 0.3, 0.5 - 1e-9])
    same = changed.clone()
    same[0] = torch.tensor([0.2, 0.3, 0.5])
    assert (layer(points, cells=changed) - layer(points, cells=same)).abs().max() < 1e-6
    assert not torch.equal(layer(points, cells=same), outputs)


def test_sizes_are_bounded(rng):
    points, parts = boxes(rng, 2, 20)
    outputs = {"far": Point(), "flow": Vector(), "number": Scalar()}
    signature = Signature(as_group("E(3)"), {"points": Point()}, outputs)
    network = Pooling(7)

    def large(points: Tensor, batch: Tensor, num_graphs: int) -> dict[str, Tensor]:
        values = 1e3 * network(points, batch, num_graphs)
        return dict(zip(outputs, values.split([3, 3, 1], -1), strict=True))

    found = PiecewiseFrameAverage(large, signature=signature, bound=0.1)(points, cells=parts)
    sizes = [
        (found["far"] - points).norm(dim=-1),
        found["flow"].norm(dim=-1),
        found["number"].abs(),
    ]
    assert all(size.max() <= 0.1 + 1e-12 for size in sizes)
    free = PiecewiseFrameAverage(large, signature=signature)(points, cells=parts)
    assert free["flow"].norm(dim=-1).max() > 1
    # what is within the bound is left as it is
    wide = PiecewiseFrameAverage(large, signature=signature, bound=1e6)(points, cells=parts)
    torch.testing.assert_close(wide["flow"], free["flow"])


def test_points_without_a_cell_get_zero_also_with_a_bound(rng):
    points, mask = torch.randn(2, 9, 3, generator=rng), torch.arange(9).expand(2, 9) < 6
    cells = torch.arange(9).expand(2, 9) // 4
    weights = torch.nn.functional.one_hot(cells, 3).float() * (torch.arange(9) < 6)[:, None]
    for bound in (None, 0.1):
        layer = PiecewiseFrameAverage(lambda points, batch, num_graphs: 2 * points, bound=bound)
        hidden = torch.where(mask[..., None], points, torch.nan)
        for found in (layer(hidden, cells=cells, mask=mask), layer(points, cells=weights)):
            assert (found[:, 6:] == 0).all()
            # control: others do not
            assert (found[:, :6] != 0).all()


def test_dense_masked_and_ragged_batches_give_the_same(rng):
    sizes = [12, 0, 9]
    clouds = [torch.randn(size, 3, dtype=torch.float64, generator=rng) for size in sizes]
    labels = [torch.randint(3, (size,), generator=rng) for size in sizes]
    layer = PiecewiseFrameAverage(Pooling())
    batch = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    ragged = layer(torch.cat(clouds), cells=torch.cat(labels), batch=batch, num_graphs=3)
    padded, mask = torch.full((3, 12, 3), torch.nan, dtype=torch.float64), torch.zeros(3, 12) > 0
    cells = torch.full((3, 12), -7)
    for i, size in enumerate(sizes):
        padded[i, :size], mask[i, :size], cells[i, :size] = clouds[i], True, labels[i]
    dense = layer(padded, cells=cells, mask=mask)
    for i, part in enumerate(ragged.split(sizes)):
        torch.testing.assert_close(part, layer(clouds[i], cells=labels[i]))
        torch.testing.assert_close(dense[i, : sizes[i]], part)
        assert (dense[i, sizes[i] :] == 0).all()


def test_a_cell_is_a_cloud(rng):
    points = torch.randn(30, 3, dtype=torch.float64, generator=rng)
    cells = torch.randint(4, (30,), generator=rng)
    network = Pooling()
    found = PiecewiseFrameAverage(network, mode="full")(points, cells=cells)
    whole = FrameAverage(network)
    for cell in range(4):
        here = cells == cell
        batch = torch.zeros(int(here.sum()), dtype=torch.int64)
        torch.testing.assert_close(found[here], whole(points[here], batch=batch, num_graphs=1))


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_cells_follow_motions_with_finite_gradients(kind, rng):
    cell = DEGENERATE[kind].double()
    points = torch.cat([cell, torch.randn(9, 3, dtype=torch.float64, generator=rng)])
    parts = torch.cat([torch.zeros(len(cell)), torch.ones(9)]).long()
    layer = PiecewiseFrameAverage(Pooling())
    cells = 2 * parts  # the cell between them is empty
    error = piecewise_errors(layer, {"points": points}, parts, cells=cells, generator=rng)
    assert error["output"].max() < EXACT
    points.requires_grad_()
    outputs = layer(points, cells=cells)
    (first,) = grad(outputs.square().sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    assert outputs.isfinite().all()
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_a_cell_that_is_not_finite_harms_no_other(rng):
    points, parts = boxes(rng, 3, 20)
    layer = PiecewiseFrameAverage(Pooling())
    expected = layer(points, cells=parts)
    points[25, 1] = torch.nan
    outputs = layer(points, cells=parts)
    torch.testing.assert_close(outputs[parts != 1], expected[parts != 1])
    assert outputs[parts == 1].isnan().any()


def test_gradients_are_those_of_the_function_of_points_and_weights(rng):
    points = torch.randn(9, 3, dtype=torch.float64, generator=rng).requires_grad_()
    weights = torch.rand(9, 2, dtype=torch.float64, generator=rng) + 0.1
    weights.requires_grad_()
    layer = PiecewiseFrameAverage(Pooling(), mode="full", bound=0.3)
    assert gradcheck(lambda x, w: layer(x, cells=w), (points, weights))


def test_a_partition_is_asked_where_no_cells_are_given(rng):
    points, parts = boxes(rng, 3, 20)
    calls = []

    def partition(points: Tensor, **layout: object) -> Tensor:
        calls.append(sorted(layout))
        return parts.expand(points.shape[:-1])

    layer = PiecewiseFrameAverage(Pooling(), partition=partition)
    torch.testing.assert_close(layer(points), layer(points, cells=parts))
    layer(points.expand(2, 60, 3), mask=torch.ones(2, 60) > 0)
    assert calls == [[], ["mask"]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dtypes_follow_the_points(dtype, rng):
    points, parts = boxes(rng, 3, 20)
    layer = PiecewiseFrameAverage(Pooling().to(dtype))
    assert layer(points.to(dtype), cells=parts).dtype == dtype
