"""The convolution as a layer under compilers, and on GPUs."""

import copy

import pytest
import torch
from torch.autograd import grad
from torch.export import Dim, export

from eqlib.position_orientation.options import EdgeOptions, KernelOptions
from tests.position_orientation.convs import conv_of, given_of, inputs_of
from tests.position_orientation.layers import all_pairs, normal

COMPILED = {
    "edges": {"edge_scalars": 1},
    "pairs": {"edge_scalars": 1, "edges": EdgeOptions(paired=True)},
    "attention": {"edge_scalars": 1, "attention": 3},
    "clouds": {},
    "given": {},
}


def traced_inputs(form, layer, rng, size):
    """Return inputs of two graphs of a size."""
    edge_index, batch = all_pairs([size, size])
    n = layer.space.dimension
    if form == "clouds":
        features = normal(rng, 2, size, layer.grid.size, 3)
        mask = torch.rand(2, size, generator=rng) > 0.2
        return {"features": features, "points": normal(rng, 2, size, n), "mask": mask}
    inputs = inputs_of(layer, rng, nodes=2 * size)
    if form == "given":
        return {**inputs, "edge_index": edge_index}
    charges = normal(rng, 2 * size, 1)
    inputs["edge_scalars"] = charges[edge_index[0]] * charges[edge_index[1]]
    return {**inputs, "edge_index": edge_index, "batch": batch, "num_graphs": 2}


SLOW = ("pairs", "attention", "given")
forms = [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in COMPILED]


@pytest.mark.unchecked
@pytest.mark.parametrize("form", forms)
def test_compiles_as_one_graph_of_any_size(form, rng):
    layer = (given_of if form == "given" else conv_of)("R3xS2", rng, **COMPILED[form])
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (4, 5):
        inputs = traced_inputs(form, layer, rng, size)
        points = inputs["points"].requires_grad_()
        found, expected = compiled(**inputs), layer(**inputs)
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)
        first, second = (grad(y.square().sum(), points)[0] for y in (found, expected))
        torch.testing.assert_close(first, second, atol=1e-10, rtol=1e-10)


@pytest.mark.unchecked
@pytest.mark.parametrize("form", ["edges", "given"])
@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_exports_with_any_number_of_nodes_and_edges(form, strict, rng):
    layer = (given_of if form == "given" else conv_of)("R3xS2", rng, **COMPILED[form]).eval()
    inputs = traced_inputs(form, layer, rng, 3)
    nodes, edges = Dim("nodes", min=2, max=2**20), Dim("edges", min=2, max=2**22)
    dims = {"features": {0: nodes}, "points": {0: nodes}, "edge_index": {1: edges}}
    dims |= {"batch": {0: nodes}, "edge_scalars": {0: edges}, "num_graphs": None}
    dims["orientations"] = {0: nodes} if form == "given" else None
    shapes = {name: dims[name] for name in inputs}
    program = export(layer, (), inputs, dynamic_shapes=shapes, strict=strict)
    other = traced_inputs(form, layer, rng, 4)
    torch.testing.assert_close(program.module()(**other), layer(**other), atol=1e-11, rtol=1e-11)


@pytest.mark.gpu
@pytest.mark.parametrize("form", list(COMPILED))
def test_a_gpu_gives_the_same(form, rng):
    options = {"kernel": KernelOptions(hidden=16, basis=16), **COMPILED[form]}
    layer = (given_of if form == "given" else conv_of)("R3xS2", rng, **options).float()
    inputs = traced_inputs(form, layer, rng, 5)
    inputs = {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in inputs.items()
    }
    moved = {
        name: value.cuda() if torch.is_tensor(value) else value for name, value in inputs.items()
    }
    results = []
    for module, given in ((layer, inputs), (copy.deepcopy(layer).cuda(), moved)):
        points = given["points"].requires_grad_()
        y = module(**given)
        results.append((y.cpu(), grad(y.square().sum(), points)[0].cpu()))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
