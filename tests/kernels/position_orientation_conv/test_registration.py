"""What torch knows of the operations: fake tensors, derivatives, compiled and exported graphs."""

import pytest
import torch
from torch.library import opcheck

from eqlib.kernels.position_orientation_conv import (
    naive,
    position_orientation_conv,
    position_orientation_conv_backward,
)
from eqlib.kernels.position_orientation_conv.op import position_orientation_conv_double_backward
from tests.kernels.position_orientation_conv.cases import CASES, NAMES, Case, close, make
from tests.kernels.position_orientation_conv.test_op import (
    TINY,
    convolve,
    leaves,
    like,
    with_tensors,
)


@pytest.mark.unchecked
def test_a_third_derivative_is_refused(rng):
    arguments = make(TINY["perpendicular"], rng)
    tensors = leaves(arguments)
    y = convolve(with_tensors(arguments, tensors), "blocked")
    (first,) = torch.autograd.grad(y.square().sum(), tensors[1:2], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), tensors[1:2], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        second.sum().backward()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "implementation"), [("R3xS2 pairs turned", "blocked"), ("given orientations", "auto")]
)
def test_operations_are_registered_right(name, implementation, rng):
    arguments = make(CASES[name], rng)
    tensors = leaves(arguments)
    y = naive.convolve(arguments)
    (grad_y,) = (t.requires_grad_() for t in like([y], rng))
    given = (*with_tensors(arguments, tensors), implementation)
    count = len(NAMES)
    opcheck(position_orientation_conv.registered, given)
    for wants in ([True] * count, [True, True, *[False] * 6, True]):
        opcheck(position_orientation_conv_backward.registered, (grad_y, *given, wants))
    plain = (*arguments, implementation)
    seeds = like(arguments[:count], rng)
    seeds[3] = seeds[3].new_empty(0)
    for wants in ([True] * (1 + count), [False, True, *[False] * 7, True]):
        opcheck(
            position_orientation_conv_double_backward.registered,
            (seeds, grad_y.detach(), *plain, wants),
            test_utils=("test_schema", "test_faketensor"),
        )


@pytest.mark.unchecked
def test_compiled_graphs_serve_any_number_of_edges(rng):
    settings = ("perpendicular", 3, 0.1, 2.5, "blocked")
    wants = [False, True, *[False] * 7]

    def energy_and_forces(*tensors):
        y = position_orientation_conv(*tensors, *settings)
        found = position_orientation_conv_backward(2 * y, *tensors, *settings, wants)
        return y, found[1]

    compiled = torch.compile(energy_and_forces, fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (23, 31, 47):
        arguments = make(Case(edges=edges, pairs=True), rng)
        tensors = leaves(arguments)
        results = []
        for run in (energy_and_forces, compiled):
            y, forces = run(*tensors, *arguments[len(NAMES) : 16])
            loss = y.sum() + forces.square().sum()
            results.append((y, forces, *torch.autograd.grad(loss, tensors)))
        assert all(close(b, a, 1e-12) for a, b in zip(*results, strict=True))


@pytest.mark.unchecked
def test_export_keeps_the_operation(rng):
    arguments = make(CASES["R3xS2"], rng)

    class Layer(torch.nn.Module):
        def forward(self, *tensors):
            return position_orientation_conv(*tensors, "perpendicular", 3, 0.1, 2.5, "blocked")

    edges = torch.export.Dim("edges", min=2, max=1000)
    dynamic = [None] * 16
    for index in (1, 3, 9, 10, 12):
        dynamic[index] = {0: edges}
    program = torch.export.export(
        Layer(), arguments[:16], dynamic_shapes={"tensors": tuple(dynamic)}
    )
    other = make(Case(edges=40), rng)
    assert torch.equal(program.module()(*other[:16]), convolve(other, "blocked"))
