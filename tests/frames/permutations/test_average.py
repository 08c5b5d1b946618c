"""Averages over permutation frames make any backbone blind to the numbering of the nodes."""

import pytest
import torch
from torch import Tensor

from eqlib.frames import FrameAverage, permutation_frames
from eqlib.frames.permutations.average import permutation_fold
from eqlib.symmetry import (
    EdgeIndex,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
    equivariance_error,
)
from tests.frames.clouds import mlp
from tests.frames.permutations.backbones import (
    DENSE,
    NODES,
    RAGGED,
    Flat,
    Numbered,
    dense_inputs,
    ragged_inputs,
)
from tests.frames.permutations.graphs import SMALL, cycle, random_graphs, relabelled
from tests.tolerances import EQUIVARIANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_dense_averages_commute_with_permutations(batch, dtype, rng):
    layer = FrameAverage(Flat(), signature=DENSE).to(dtype)
    inputs = dense_inputs(rng, *batch, dtype=dtype)
    found = layer(**inputs)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "graph": (*batch, 3),
        "node": (*batch, NODES, 2),
        "pair": (*batch, NODES, NODES, 1),
    }
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[dtype]
    bare = equivariance_error(layer.backbone, inputs, signature=DENSE, generator=rng)
    assert bare.max > 1e-2


@pytest.mark.parametrize("name", [n for n in SMALL if len(SMALL[n].matrix) in range(1, 7)])
def test_symmetric_graphs_are_averaged_exactly(name, rng):
    matrix = SMALL[name].matrix
    layer = FrameAverage(Flat(len(matrix)), signature=DENSE).double()
    inputs = {"adjacency": matrix, "x": torch.ones(len(matrix), 2, dtype=torch.float64)}
    error = equivariance_error(layer, inputs, generator=rng).max
    assert error < EQUIVARIANCE[torch.float64]
    # nodes that an automorphism exchanges get the same output
    if name in ("star", "cycle", "complete"):
        node = layer(**inputs)["node"]
        first, last = (node[0], node[-1])
        torch.testing.assert_close(first, last, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ragged_averages_commute_with_permutations(dtype, chunk, rng):
    layer = FrameAverage(Numbered(), signature=RAGGED, chunk=chunk).to(dtype)
    inputs = ragged_inputs(dtype)
    found = layer(**inputs)
    assert found["node"].shape == (12, 3)
    assert found["graph"].shape == (5, 3)
    assert found["edge_out"].shape == (20, 3)
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[dtype]
    bare = equivariance_error(layer.backbone, inputs, signature=RAGGED, generator=rng)
    assert bare.max > 1e-2


def test_ragged_averages_are_those_of_single_graphs(rng):
    layer = FrameAverage(Numbered(), signature=RAGGED).double()
    inputs = ragged_inputs()
    inputs["x"] = torch.randn(12, 2, generator=rng, dtype=torch.float64)
    found = layer(**inputs)
    batch, edges = inputs["batch"], inputs["edge_index"]
    for graph in (0, 2, 3, 4):
        nodes, mine = batch == graph, batch[edges[0]] == graph
        start = int(nodes.nonzero()[0, 0])
        alone = layer(
            x=inputs["x"][nodes],
            edge_index=edges[:, mine] - start,
            batch=batch[nodes] - graph,
            edge_weight=inputs["edge_weight"][mine],
            num_graphs=1,
        )
        torch.testing.assert_close(alone["node"], found["node"][nodes])
        torch.testing.assert_close(alone["graph"][0], found["graph"][graph])
        torch.testing.assert_close(alone["edge_out"], found["edge_out"][mine])
    assert (found["graph"][1] == 0).all()


def test_averages_are_means_over_listed_orders(rng):
    matrix, network = cycle(4), Flat(4).double()
    layer = FrameAverage(network, signature=DENSE)
    x = torch.randn(4, 2, generator=rng, dtype=torch.float64)
    orders = permutation_frames(matrix).order.view(-1, 4)
    outputs = [network(relabelled(matrix, order), x[order]) for order in orders]
    mean = torch.stack([output["graph"] for output in outputs]).mean(0)
    torch.testing.assert_close(layer(adjacency=matrix, x=x)["graph"], mean)
    pairs = [
        zip(orders, (output["node"] for output in outputs), strict=True),
    ]
    nodes = torch.stack([node[order.argsort()] for order, node in pairs[0]]).mean(0)
    torch.testing.assert_close(layer(adjacency=matrix, x=x)["node"], nodes)


def test_keys_shrink_the_frame(rng):
    matrix = cycle(4)
    x = torch.tensor([[0.0, 1], [1, 1], [0, 1], [1, 1]], dtype=torch.float64)
    inputs = {"adjacency": matrix, "x": x}
    assert permutation_fold(inputs, DENSE).copies == 24
    assert permutation_fold(inputs, DENSE, keys=["x"]).copies == 4
    layer = FrameAverage(Flat(4), signature=DENSE, frame_options={"keys": ["x"]}).double()
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]


def test_masked_nodes_play_no_part(rng):
    inputs = dense_inputs(rng, 4)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5, [False] * 6])
    layer = FrameAverage(
        lambda adjacency, x, mask: Flat.forward(network, adjacency, x), signature=DENSE
    )
    network = Flat().double()
    adjacency = inputs["adjacency"] * mask[:, None] * mask[..., None]
    x = inputs["x"] * mask[..., None]
    clean = layer(adjacency=adjacency, x=x, mask=mask)
    hidden = {
        "adjacency": torch.where(mask[:, None] & mask[..., None], adjacency, torch.nan),
        "x": torch.where(mask[..., None], x, torch.nan),
    }
    dirty = layer(**hidden, mask=mask)
    order = torch.tensor([1, 3, 0, 2, 5, 4])  # keeps the 4 nodes of graph 1 in front
    for name in ("graph", "node", "pair"):
        torch.testing.assert_close(dirty[name], clean[name], rtol=0, atol=0)
    moved = layer(
        adjacency=adjacency[:2][:, order][:, :, order], x=x[:2, order], mask=mask[:2, order]
    )
    torch.testing.assert_close(moved["graph"], clean["graph"][:2])
    torch.testing.assert_close(moved["node"][:, :4], clean["node"][:2, order][:, :4])


def test_sets_are_sorted_by_their_rows(rng):
    signature = Signature(Permutations(), {"x": Scalar() * NodeOrder(-2)}, Scalar())
    network = mlp(10, 2)
    layer = FrameAverage(lambda x: network(x.flatten(-2)), signature=signature)
    x = torch.randn(3, 5, 2, generator=rng, dtype=torch.float64)
    x[0, 1] = x[0, 3]
    error = equivariance_error(layer, {"x": x}, generator=rng)
    assert error.max < EQUIVARIANCE[torch.float64]
    bare = equivariance_error(layer.backbone, {"x": x}, signature=signature, generator=rng)
    assert bare.max > 1e-2


def test_single_graphs_need_no_batch(rng):
    signature = Signature(
        Permutations(),
        {"x": Scalar() * NodeOrder(0), "edge_index": EdgeIndex()},
        Scalar() * NodeOrder(0),
    )

    def backbone(x: Tensor, edge_index: Tensor) -> Tensor:
        slot = torch.arange(len(x), dtype=x.dtype) % 4
        return x.index_add(0, edge_index[1], (slot[:, None] * x)[edge_index[0]])

    layer = FrameAverage(backbone, signature=signature)
    inputs = {
        "x": torch.randn(4, 1, generator=rng, dtype=torch.float64),
        "edge_index": torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]),
    }
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]
    bare = equivariance_error(backbone, inputs, signature=signature, generator=rng)
    assert bare.max > 1e-2


def test_gradients_reach_inputs_and_parameters(rng):
    layer = FrameAverage(Flat(4), signature=DENSE).double()
    matrix = cycle(4)
    x = torch.randn(4, 2, generator=rng, dtype=torch.float64, requires_grad=True)

    def value(x: Tensor) -> Tensor:
        return layer(adjacency=matrix, x=x)["graph"]

    assert torch.autograd.gradcheck(value, (x,))
    assert torch.autograd.gradgradcheck(value, (x,))
    value(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)
    assert layer.backbone.network[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype, rng):
    inputs = dense_inputs(rng, 2)
    layer = FrameAverage(Flat(), signature=DENSE).double()
    expected = layer(**inputs)
    found = layer.to(dtype)(**{name: value.to(dtype) for name, value in inputs.items()})
    for name, value in found.items():
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=5e-2)


@pytest.mark.unchecked
def test_compiled_backbones(rng):
    network = Flat().double()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=True)
    layer = FrameAverage(compiled, signature=DENSE)
    for batch in (2, 3):  # frames of other sizes do not compile again
        inputs = dense_inputs(rng, batch)
        torch.testing.assert_close(
            layer(**inputs), FrameAverage(network, signature=DENSE)(**inputs)
        )


@pytest.mark.parametrize("shape", [(0, NODES), (2, 0), (0, 0)], ids=str)
def test_empty_batches(shape):
    def backbone(adjacency: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {
            "graph": adjacency.sum((1, 2))[:, None],
            "node": 2 * x,
            "pair": adjacency[..., None],
        }

    found = FrameAverage(backbone, signature=DENSE)(
        adjacency=torch.zeros(*shape, shape[-1]), x=torch.zeros(*shape, 2)
    )
    assert found["graph"].shape == (shape[0], 1)
    assert found["node"].shape == (*shape, 2)
    assert found["pair"].shape == (*shape, shape[-1], 1)


def test_large_frames_are_refused_or_sampled(rng):
    inputs = {"adjacency": torch.zeros(7, 7), "x": torch.ones(7, 2)}
    with pytest.raises(ValueError, match=r"graph 0 has 5040 orders, more than 720"):
        FrameAverage(Flat(7), signature=DENSE)(**inputs)
    exact = FrameAverage(Flat(7).float(), signature=DENSE, frame_options={"limit": 5040})
    assert exact(**inputs)["graph"].shape == (3,)
    fold = permutation_fold(inputs, DENSE, samples=9, generator=rng, large="sample")
    assert (fold.copies, fold.frames.exact.tolist(), fold.frames.size) == (9, [False], (5040,))
    sampled = FrameAverage(
        exact.backbone, signature=DENSE, samples=9, generator=rng, frame_options={"large": "sample"}
    )
    assert sampled(**inputs)["graph"].shape == (3,)
    assert exact.signature.exact
    assert not sampled.signature.exact
    assert not FrameAverage(Flat(), signature=DENSE, eval_mode="stochastic").signature.exact


def test_drawn_orders_average_to_the_full_frame(rng):
    inputs = {"adjacency": cycle(4), "x": torch.randn(4, 2, generator=rng, dtype=torch.float64)}
    network = Flat(4).double()
    full = FrameAverage(network, signature=DENSE)
    drawn = FrameAverage(
        network, signature=DENSE, mode="stochastic", samples=50, generator=rng
    ).train()
    values = torch.stack([drawn(**inputs)["graph"] for _ in range(200)])
    mean, deviation = values.mean(0), values.std(0) / 200**0.5
    assert ((mean - full(**inputs)["graph"]).abs() < 4 * deviation).all()
    # control: one fixed order is not the mean
    bare = network(**inputs)["graph"]
    assert ((mean - bare).abs() > 4 * deviation).any()
    drawn.eval()
    torch.testing.assert_close(drawn(**inputs)["graph"], full(**inputs)["graph"])


def test_the_same_generator_state_draws_the_same(rng):
    inputs = dense_inputs(rng, 3)
    layer = FrameAverage(Flat().double(), signature=DENSE, mode="stochastic", generator=rng)
    inputs["adjacency"] = torch.zeros_like(inputs["adjacency"])
    state = rng.get_state()
    first, second = layer(**inputs)["graph"], layer(**inputs)["graph"]
    rng.set_state(state)
    assert torch.equal(layer(**inputs)["graph"], first)
    assert not torch.equal(first, second)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mode": "weighted"}, "mode"),
        ({"frame_options": {"large": "ignore"}}, "large"),
        ({"frame_options": {"keys": ["adjacency"]}}, "keys: 'adjacency' is no tensor"),
        ({"frame_options": {"limits": 3}}, "frame_options"),
        ({"orders": True}, "orders"),
    ],
    ids=["mode", "large", "keys", "unknown", "orders"],
)
def test_bad_options(change, match, rng):
    with pytest.raises(ValueError, match=match):
        FrameAverage(Flat(), signature=DENSE, **change)(**dense_inputs(rng, 2))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("output", "match"),
    [
        (lambda x: x.new_zeros(1, 3), "output: expected the batch of 5 graphs|expected the batch"),
        (lambda x: x.new_zeros(len(x), 3, 2), "output: expected 4 nodes along axis -2"),
        (lambda x: x.new_zeros(len(x), 4, 2).long(), "output: expected floating-point"),
    ],
    ids=["batch", "nodes", "integers"],
)
def test_bad_outputs(output, match, rng):
    signature = Signature(
        Permutations(), {"adjacency": NodeOrder(-2, -1)}, Scalar() * NodeOrder(-2)
    )
    layer = FrameAverage(output, signature=signature)
    with pytest.raises((ValueError, TypeError), match=match):
        layer(random_graphs(rng, 5, 4))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": torch.zeros(11, 2)}, "x: expected rows for 12"),
        ({"edge_weight": torch.zeros(7)}, "edge_weight: expected rows for 20"),
    ],
    ids=["nodes", "edges"],
)
def test_bad_rows(change, match):
    with pytest.raises(ValueError, match=match):
        FrameAverage(Numbered(), signature=RAGGED)(**{**ragged_inputs(torch.float32), **change})


@pytest.mark.unchecked
def test_graphs_cannot_share_edges(rng):
    signature = Signature(
        Permutations(), {"adjacency": NodeOrder(-2, -1), "edge_index": EdgeIndex()}, Scalar()
    )
    with pytest.raises(ValueError, match=r"edge_index: .*share no edges"):
        FrameAverage(lambda **inputs: None, signature=signature)(
            adjacency=random_graphs(rng, 3, 4), edge_index=torch.zeros(2, 1, dtype=torch.int64)
        )
