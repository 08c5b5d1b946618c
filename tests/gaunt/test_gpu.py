"""Tensor products of layers on a GPU."""

import copy

import pytest
import torch
from torch.autograd import grad

from eqlib.gaunt import GauntTensorProduct
from tests.gaunt.oracle import VALUE, error


@pytest.mark.gpu
@pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_gpu_agrees_with_the_cpu(complete, dtype, rng):
    module = GauntTensorProduct(2, 1, 3, 32, complete, rank=2)
    module.reset_parameters(rng)
    parity = (2,) if complete else ()
    x, y = (
        torch.randn(40, *parity, size, 32, dtype=torch.float64, generator=rng) for size in (9, 4)
    )
    expected = copy.deepcopy(module).double()(x.requires_grad_(), y)
    given = x.detach().to("cuda", dtype).requires_grad_()
    found = copy.deepcopy(module).to("cuda", dtype)(given, y.to("cuda", dtype))
    # A complete output adds eight products, each rounded.
    tolerance = 3 * VALUE[dtype]
    assert error(found.cpu(), expected) <= tolerance
    gradients = grad(found.square().sum(), given)[0], grad(expected.square().sum(), x)[0]
    assert error(gradients[0].cpu(), gradients[1]) <= 3 * tolerance
