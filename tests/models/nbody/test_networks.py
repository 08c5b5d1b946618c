"""The N-body networks: symmetry, batches, degenerate and wrong input."""

import copy
from functools import partial

import pytest
import torch

from eqlib.geometry import complete_graph
from eqlib.models.nbody import EGNN, FAGNN, GNN, PNITA, PONITA, GauntNet, Integrator, Linear
from eqlib.models.nbody.networks.base import SIGNATURE
from eqlib.models.nbody.networks.message_passing import PairLinear
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

NETWORKS = {
    "linear": Linear,
    "gnn": GNN,
    "egnn": EGNN,
    "fa_gnn": FAGNN,
    "gaunt_net": GauntNet,
    "ponita": partial(PONITA, channels=16, basis=16),
    "pnita": partial(PNITA, channels=16, basis=16),
    "integrator": partial(Integrator, steps=4),
}
EQUIVARIANT = ["linear", "egnn", "fa_gnn", "gaunt_net", "ponita", "pnita", "integrator"]


def build(name: str, dtype: torch.dtype = torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]().to(dtype).eval()
    if name == "egnn":  # at its start the coordinates hardly move: make the test see them
        for layer in network.layers:
            layer.attract[-1].weight.data *= 100
    return network


def particles(counts: list[int], rng, dtype=torch.float64):
    nodes = sum(counts)
    return {
        "points": torch.randn(nodes, 3, generator=rng, dtype=dtype)
        * torch.tensor([3, 2, 1.0], dtype=dtype),
        "velocities": torch.randn(nodes, 3, generator=rng, dtype=dtype),
        "charges": torch.randint(2, (nodes,), generator=rng).to(dtype) * 2 - 1,
        "batch": torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        "num_graphs": len(counts),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_networks_commute_with_motions_and_relabellings(name, dtype, rng):
    inputs = particles([5, 4, 6], rng, dtype)
    network = build(name, dtype)
    assert equivariance_error(network, inputs, generator=rng).max < EQUIVARIANCE[dtype]


def test_the_same_check_rejects_the_plain_network(rng):
    inputs = particles([5, 4, 6], rng)
    assert equivariance_error(build("gnn"), inputs, SIGNATURE, generator=rng).max > 1e-2
    # what it does claim, it keeps
    assert equivariance_error(build("gnn"), inputs, generator=rng).max < 1e-12


def test_egnn_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in EGNN().parameters()) == 134_020


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_batch_equals_its_graphs_one_by_one(name, rng):
    counts = [5, 0, 1, 2, 7, 0]
    inputs = particles(counts, rng)
    network = build(name)
    together = network(**inputs)
    edges = complete_graph(inputs["batch"], len(counts))
    assert torch.allclose(network(**inputs, edge_index=edges), together, atol=1e-12)
    for graph in range(len(counts)):
        chosen = inputs["batch"] == graph
        alone = network(*(inputs[key][chosen] for key in ("points", "velocities", "charges")))
        assert torch.allclose(alone, together[chosen], atol=1e-10), graph


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize(
    "shape", ["no points", "one point", "coincident", "collinear", "at rest"], ids=str
)
def test_degenerate_clouds_have_finite_values_and_gradients(name, shape, rng):
    inputs = particles([{"no points": 0, "one point": 1}.get(shape, 5)], rng)
    if shape == "coincident":
        inputs["points"][:] = inputs["points"][:1].clone()
    if shape == "collinear":
        inputs["points"] = inputs["points"][:, :1] * torch.tensor(
            [1.0, 2.0, -1.0], dtype=torch.float64
        )
    if shape == "at rest":
        inputs["velocities"].zero_()
    network = build(name)
    inputs["points"].requires_grad_()
    inputs["velocities"].requires_grad_()
    moved = network(**inputs)
    assert moved.shape == inputs["points"].shape
    assert moved.isfinite().all()
    moved.square().sum().backward()
    assert inputs["points"].grad.isfinite().all()
    assert inputs["velocities"].grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_nan_in_one_graph_leaves_the_others_exact(name, rng):
    inputs = particles([5, 5, 5], rng)
    network = build(name)
    clean = network(**inputs)
    inputs["points"][7, 1] = torch.nan
    spoilt = network(**inputs)
    others = inputs["batch"] != 1
    assert torch.equal(spoilt[others], clean[others])
    assert spoilt[~others].isnan().any()


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "points: got torch.int64", lambda x: {"points": x["points"].long()}),
        (
            TypeError,
            "velocities: got torch.float32",
            lambda x: {"velocities": x["velocities"].float()},
        ),
        (ValueError, r"points: got shape \(15, 2\)", lambda x: {"points": x["points"][:, :2]}),
        (
            ValueError,
            r"velocities: got shape \(14, 3\)",
            lambda x: {"velocities": x["velocities"][1:]},
        ),
        (ValueError, r"charges: got shape \(15, 1\)", lambda x: {"charges": x["charges"][:, None]}),
        (ValueError, r"batch: got shape \(14,\)", lambda x: {"batch": x["batch"][1:]}),
        (ValueError, "edge_index: got shape", lambda x: {"edge_index": torch.zeros(3, 4).long()}),
        (ValueError, "inputs on cpu, meta", lambda x: {"velocities": x["velocities"].to("meta")}),
    ],
    ids=[
        "int points",
        "float32 velocities",
        "2-D",
        "missing row",
        "charges",
        "batch",
        "edges",
        "device",
    ],
)
@pytest.mark.parametrize("name", ["egnn", "fa_gnn", "gaunt_net", "ponita"])
@pytest.mark.unchecked
def test_wrong_input_is_named(name, error, message, change, rng):
    inputs = particles([5, 5, 5], rng)
    with pytest.raises(error, match=message):
        build(name)(**inputs | change(inputs))


def test_pair_linear_equals_the_joint_linear_map(rng):
    layer = PairLinear(4, 2, 3).double()
    nodes = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    edge_index = complete_graph(torch.zeros(6, dtype=torch.long), 1)
    edges = torch.randn(edge_index.shape[1], 2, generator=rng, dtype=torch.float64)
    source, target = edge_index
    joint = torch.cat([nodes[target], nodes[source], edges], -1) @ layer.weight.mT + layer.bias
    assert torch.allclose(layer(nodes, edges, source, target), joint, atol=1e-14)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_compile_without_graph_breaks(name, rng):
    torch._dynamo.reset()  # all networks share the code of forward, and it recompiles but 8 times
    inputs = particles([5, 5], rng)
    network = build(name)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    inputs["edge_index"] = complete_graph(inputs["batch"], 2)
    assert torch.allclose(compiled(**inputs), network(**inputs), atol=1e-12)


def test_drawn_frames_train_with_fewer_and_evaluate_with_all(rng):
    inputs = particles([5, 5], rng)
    full, drawn = FAGNN().double(), FAGNN(train_frames=2).double()
    drawn.load_state_dict(full.state_dict())
    assert torch.equal(drawn.eval()(**inputs), full.eval()(**inputs))
    drawn.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, other = drawn(**inputs), drawn(**inputs)
    assert not torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value"), [("width", 61), ("train_frames", 0), ("train_frames", 9)]
)
def test_frame_averaged_network_names_a_wrong_option(argument, value):
    with pytest.raises(ValueError, match=argument):
        FAGNN(**{argument: value})


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_the_check_leaves_the_network_as_it_was(name, rng):
    network = build(name)
    before = copy.deepcopy(network.state_dict())
    equivariance_error(network, particles([5, 4], rng), generator=rng)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of torch
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_forward_mode_is_the_transpose_of_reverse_mode(name, training, rng):
    inputs = particles([4, 3], rng)
    points = inputs.pop("points")
    network = build(name).train(training and name not in ("fa_gnn", "integrator"))
    tangent, cotangent = (torch.randn(7, 3, generator=rng, dtype=torch.float64) for _ in range(2))

    def function(points):
        return network(points, **inputs)

    _, moved = torch.func.jvp(function, (points,), (tangent,))
    (gradient,) = torch.func.vjp(function, points)[1](cotangent)
    leaf = points.clone().requires_grad_()
    (usual,) = torch.autograd.grad(function(leaf), leaf, cotangent)
    assert torch.allclose(gradient, usual, rtol=1e-9, atol=1e-12)
    assert (moved * cotangent).sum().item() == pytest.approx((usual * tangent).sum().item(), 1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of torch
@pytest.mark.parametrize("name", ["gaunt_net", "ponita"])
def test_the_hessian_is_that_of_two_backward_passes(name, rng):
    inputs = particles([3], rng)
    points = inputs.pop("points").requires_grad_()
    network = build(name)

    def energy(points):
        return network(points, **inputs).sin().sum()

    (force,) = torch.autograd.grad(energy(points), points, create_graph=True)
    rows = [torch.autograd.grad(f, points, retain_graph=True)[0] for f in force.flatten()]
    found = torch.func.hessian(energy)(points.detach())
    assert torch.allclose(found.reshape(9, 3, 3), torch.stack(rows), rtol=1e-8, atol=1e-10)
