"""What torch knows of the operations: fake tensors, derivatives, compiled and exported graphs."""

import pytest
import torch
from torch.library import opcheck

from eqlib.kernels.pair_linear import Pairs, pair_linear, pair_reduce, pair_weight_gradient
from tests.kernels.pair_linear.cases import CASES, Case, close, make
from tests.kernels.pair_linear.test_op import leaves

pytestmark = pytest.mark.unchecked
FEW = [
    "ragged, rooted, shared",
    "ragged",
    "no subgraph, rooted",
    "no subgraph, shared",
    "no channel",
    "one node, rooted",
]


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("implementation", ["blocked", "auto"])
def test_operations_are_registered_right(name, implementation, rng):
    problem = make(CASES[name], rng)
    x, weight, spread = leaves(problem[:3])
    grad = torch.randn(len(x), weight.shape[2], dtype=x.dtype, generator=rng).requires_grad_()
    rest = (problem.scale, *problem.pairs, implementation)
    opcheck(pair_linear.registered, (x, weight, spread, *rest))
    opcheck(pair_linear.registered, (x, weight, None, *rest))
    opcheck(pair_reduce.registered, (x, *rest))
    opcheck(pair_weight_gradient.registered, (x, grad, problem.pairs.transpose, implementation))


def layer(x, weight, spread, scale, *pairs):
    """Both operations, one after the other."""
    sums = pair_reduce(x, None, *pairs, "blocked")
    return pair_linear(x, weight, spread + sums.sum(), scale, *pairs, "blocked")


def test_compiled_graphs_serve_subgraphs_of_any_size():
    rng = torch.Generator().manual_seed(3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for sizes in ((2, 3, 5), (3, 3, 4, 9), (2, 2)):
        problem = make(Case(sizes, nodes=12, rooted=True), rng)
        found = []
        for run in (layer, compiled):
            given = leaves(problem[:3])
            y = run(*given, *problem.linear()[3:])
            found.append([y, *torch.autograd.grad(y.square().sum(), given)])
        assert all(close(b, a, 1e-12) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_export_keeps_the_operations(shared, rng):
    class Layer(torch.nn.Module):
        def forward(self, *tensors):
            return layer(*tensors)

    problem = make(Case(shared=shared, rooted=True), rng)
    auto = torch.export.Dim.AUTO
    spots = [{0: auto}, None, {0: auto}, {0: auto}]
    spots += [None if index is None else {0: auto} for index in problem.pairs]
    program = torch.export.export(
        Layer(), problem.linear(), dynamic_shapes={"tensors": tuple(spots)}
    )
    other = make(Case((4, 3, 6), 9, shared=shared, rooted=True), rng).linear()
    assert torch.equal(program.module()(*other), layer(*other))


def test_the_shape_of_an_empty_rooted_batch(rng):
    problem = make(CASES["no subgraph, rooted"], rng)
    assert pair_reduce(*problem.reduction(), "auto").shape == (0, 5 * problem.x.shape[1])
    unrooted = Pairs(*problem.pairs)._replace(root=None)
    assert pair_reduce(problem.x, None, *unrooted, "auto").shape == (0, 3 * problem.x.shape[1])


def test_autocast_does_not_reach_inside(rng):
    problem = make(Case(rooted=True), rng, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pair_linear(*problem.linear(), "blocked")
    assert torch.equal(found, pair_linear(*problem.linear(), "blocked"))
