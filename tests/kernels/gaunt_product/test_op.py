"""The operations eqlib::gaunt_product and eqlib::gaunt_product_gradients as torch sees them."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.gaunt.tables import plan
from eqlib.kernels.gaunt_product import gaunt_product, gaunt_product_gradients
from tests.kernels.gaunt_product.test_implementations import NAMES, factors, features, needs

names = pytest.mark.parametrize("name", NAMES)
odds = pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
LMAXES = (1, 2, 2)


def tables(name, odd):
    return plan(name, torch.device("cpu"), torch.float64, LMAXES, odd)[1]


def operands(rng, weighted=True):
    x, y = (features(lmax, rng, batch=(2,)).requires_grad_() for lmax in LMAXES[:2])
    weights = [w.requires_grad_() for w in factors(LMAXES, rng)] if weighted else [None] * 3
    return x, y, *weights


@odds
@names
def test_gradcheck_and_gradgradcheck(name, odd, rng):
    needs(name)

    def product(x, y, w1, w2, w3):
        return gaunt_product(x, y, w1, w2, w3, tables(name, odd), LMAXES[2], odd, name)

    arguments = operands(rng)
    assert gradcheck(product, arguments, fast_mode=True)
    assert gradgradcheck(product, arguments, fast_mode=True)


@names
def test_third_order(name, rng):
    needs(name)
    x, y, w1, w2, w3 = operands(rng)

    def gradient(x, y, w2):
        z = gaunt_product(x, y, w1, w2, w3, tables(name, False), LMAXES[2], False, name)
        return torch.autograd.grad(z.pow(3).sum(), w2, create_graph=True)[0]

    assert gradgradcheck(gradient, (x, y, w2), fast_mode=True)


@pytest.mark.unchecked
@pytest.mark.parametrize("weighted", [True, False], ids=["weights", "no weights"])
@names
def test_opcheck(name, weighted, rng):
    needs(name)
    x, y, *weights = operands(rng, weighted)
    odd = not weighted
    arguments = (x, y, *weights, tables(name, odd), LMAXES[2], odd, name)
    torch.library.opcheck(gaunt_product, arguments)
    seed = features(LMAXES[2], rng, batch=(2,)).requires_grad_()
    arguments = (seed, x, y, *weights, tables(name, odd), odd, name, weighted)
    torch.library.opcheck(gaunt_product_gradients, arguments)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (4,), (0, 3)], ids=str)
@names
def test_gradients_of_some_operands_only(name, needed, rng):
    needs(name)
    every = operands(rng)

    def gradients(leaves):
        z = gaunt_product(*leaves, tables(name, False), LMAXES[2], False, name)
        return torch.autograd.grad(z.square().sum(), [leaves[i] for i in needed])

    some = [t if i in needed else t.detach() for i, t in enumerate(every)]
    for one, other in zip(gradients(some), gradients(every), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y), r"x has shape \(4, 2\) and y \(2, 9, 2\)"),
        (lambda x, y: (x[:1], y), "with the same batch and channels"),
        (lambda x, y: (x[..., :1], y), "with the same batch and channels"),
        (lambda x, y: (x.float(), y), "expected one dtype and one device"),
    ],
    ids=["axes", "batch", "channels", "dtype"],
)
def test_operands_that_do_not_fit(change, message, rng):
    x, y = (features(lmax, rng, batch=(2,)) for lmax in LMAXES[:2])
    arguments = (None, None, None, tables("naive", False), LMAXES[2], False, "naive")
    with pytest.raises(ValueError, match=message):
        gaunt_product(*change(x, y), *arguments)
