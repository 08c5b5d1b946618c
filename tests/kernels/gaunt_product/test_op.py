"""The operations eqlib::gaunt_product and eqlib::gaunt_product_gradients as torch sees them."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.gaunt.tables import plan
from eqlib.kernels.gaunt_product import gaunt_product, gaunt_product_gradients, product
from tests.kernels.gaunt_product.test_implementations import NAMES, factors, features, needs

names = pytest.mark.parametrize("name", NAMES)
odds = pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
jit_warning = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:DeprecationWarning"
)  # torch's own
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
    needs(name, odd=odd)

    arguments = operands(rng)
    for operation in (product, gaunt_product):

        def function(x, y, w1, w2, w3, operation=operation):
            return operation(x, y, w1, w2, w3, tables(name, odd), LMAXES[2], odd, name)

        assert gradcheck(function, arguments, fast_mode=True)
        assert gradgradcheck(function, arguments, fast_mode=True)


@pytest.mark.unchecked
@jit_warning
@pytest.mark.parametrize("weighted", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("name", ["naive", "blocked"])
def test_forward_mode(name, weighted, rng):
    leaves = [t for t in operands(rng, weighted) if t is not None]
    odd = weighted

    def function(x, y, *weights):
        weights = weights or (None, None, None)
        return product(x, y, *weights, tables(name, odd), LMAXES[2], odd, name)

    assert gradcheck(function, leaves, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(function, leaves, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.unchecked
@pytest.mark.parametrize("dims", [(0, 0, None), (1, None, None), (None, 2, 0)], ids=str)
def test_vmap(dims, rng):
    x, y = (features(lmax, rng, batch=(4,)) for lmax in LMAXES[:2])
    w = factors((LMAXES[0],), rng)[0]
    many = [
        t if dim is None else torch.stack([t, 2 * t, -t], dim)
        for t, dim in zip((x, y, w), dims, strict=True)
    ]

    def function(x, y, w):
        return product(x, y, w, None, None, tables("blocked", False), LMAXES[2], False, "blocked")

    found = torch.func.vmap(function, in_dims=dims)(*many)
    count = sum(dim is not None for dim in dims)
    z = function(x, y, w)
    for entry, factor in zip(found, (1, 2, -1), strict=True):
        torch.testing.assert_close(entry, factor**count * z)


@pytest.mark.unchecked
@jit_warning
def test_functional_transforms(rng):
    x, y = (features(lmax, rng, batch=(2,)) for lmax in LMAXES[:2])

    def loss(x):
        none = (None, None, None)
        z = product(x, y, *none, tables("blocked", False), LMAXES[2], False, "blocked")
        return z.pow(3).sum()

    gradient = torch.func.grad(loss)
    (expected,) = torch.autograd.grad(loss(x.requires_grad_()), x)
    x = x.detach()
    torch.testing.assert_close(gradient(x), expected)
    backward = torch.func.jacrev(gradient)(x)
    torch.testing.assert_close(torch.func.jacfwd(gradient)(x), backward)
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, x), backward)


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
    odd = not weighted and name != "separable"
    needs(name, odd=odd)
    x, y, *weights = operands(rng, weighted)
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
