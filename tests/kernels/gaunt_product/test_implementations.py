"""Every implementation of the products on the sphere against e3nn's harmonics."""

import pytest
import torch

from eqlib.gaunt import gaunt_product, poisson_product
from eqlib.kernels import choice, native
from eqlib.kernels.gaunt_product import (
    LARGEST_DEGREE,
    _weight_gradients,
    blocked,
    implementations,
    pick,
    whynot,
)
from tests.gaunt.oracle import VALUE, error, product

CPU = torch.device("cpu")
NAMES = ["naive", "fourier", "blocked", "compiled", "separable"]
DEGREES = [
    (0, 0, 0),
    (1, 1, 1),
    (2, 2, 2),
    (3, 3, 3),
    (4, 4, 4),
    (2, 3, 4),
    (4, 1, 2),
    (0, 3, 3),
    (3, 3, 0),
    (1, 2, 6),
    (5, 2, 0),
]
LARGE = [(6, 6, 6), (8, 8, 8), (3, 8, 5)]

names = pytest.mark.parametrize("name", NAMES)
odds = pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def needs(name, dtype=torch.float64, odd=False):
    """Skip where this machine cannot run an implementation."""
    if reason := whynot(name, CPU, dtype, (0, 0, 0), odd):
        pytest.skip(f"{name}: {reason}")


def operation(odd):
    return poisson_product if odd else gaunt_product


def features(lmax, rng, batch=(3,), channels=2, dtype=torch.float64):
    return torch.randn(*batch, (lmax + 1) ** 2, channels, dtype=dtype, generator=rng)


def factors(lmaxes, rng, channels=2, dtype=torch.float64):
    return [torch.randn(lmax + 1, channels, dtype=dtype, generator=rng) for lmax in lmaxes]


@pytest.mark.parametrize("lmaxes", [*DEGREES, *LARGE], ids=str)
@dtypes
@odds
@names
def test_values(name, odd, dtype, lmaxes, rng):
    needs(name, dtype, odd=odd)
    x, y = (features(lmax, rng, dtype=dtype) for lmax in lmaxes[:2])
    z = operation(odd)(x, y, lmaxes[2], implementation=name)
    expected = product(x, y, lmaxes[2], odd)
    assert z.dtype == dtype
    if expected.abs().max() < 1e-13:  # no path: a bracket with degree 0
        assert z.abs().max() <= VALUE[dtype]
    else:
        assert error(z, expected) <= VALUE[dtype]


@pytest.mark.parametrize("lmaxes", [(2, 3, 4), (4, 1, 2)], ids=str)
@odds
@names
def test_weights(name, odd, lmaxes, rng):
    needs(name, odd=odd)
    x, y = (features(lmax, rng) for lmax in lmaxes[:2])
    every = factors(lmaxes, rng)
    for absent in (None, 0, 1, 2):
        weights = [None if i == absent else w for i, w in enumerate(every)]
        z = operation(odd)(x, y, lmaxes[2], weights, name)
        assert error(z, product(x, y, lmaxes[2], odd, weights)) <= 1e-12
    # control: they are not ignored
    assert error(z, product(x, y, lmaxes[2], odd)) > 0.1


@pytest.mark.parametrize("lmaxes", [(2, 2, 2), (3, 1, 4)], ids=str)
@odds
@names
def test_derivatives_of_both_orders_with_weights(name, odd, lmaxes, rng):
    needs(name, odd=odd)
    x, y = (features(lmax, rng) for lmax in lmaxes[:2])
    leaves = [t.requires_grad_() for t in (x, y, *factors(lmaxes, rng))]
    seed = features(lmaxes[2], rng)
    seeds = [torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in leaves]

    def derivatives(function):
        x, y, *weights = leaves
        value = (function(x, y, lmaxes[2], weights) * seed).sum()
        first = torch.autograd.grad(value, leaves, create_graph=True)
        dots = sum((a * b).sum() for a, b in zip(first, seeds, strict=True))
        return [*first, *torch.autograd.grad(dots, leaves)]

    found = derivatives(lambda *arguments: operation(odd)(*arguments, implementation=name))
    expected = derivatives(lambda x, y, lmax, weights: product(x, y, lmax, odd, weights))
    assert max(error(a, b) for a, b in zip(found, expected, strict=True)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@odds
@pytest.mark.parametrize("name", ["naive", "fourier", "blocked"])
def test_gradients_in_every_dtype(name, odd, dtype, rng):
    x, y, seed = (features(3, rng, dtype=dtype) for _ in range(3))
    weights = factors((3, 3, 3), rng, dtype=torch.float32)
    leaves = [t.requires_grad_() for t in (x, y, *weights)]
    z = operation(odd)(x, y, 3, weights, name)
    assert z.dtype == dtype
    assert error(z, product(x, y, 3, odd, weights)) <= VALUE[dtype]
    found = torch.autograd.grad((z * seed).sum(), leaves)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    value = (product(*wide[:2], 3, odd, wide[2:]) * seed.double()).sum()
    expected = torch.autograd.grad(value, wide)
    assert [g.dtype for g in found] == [t.dtype for t in leaves]
    errors = [error(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors) <= 3 * VALUE[dtype]


@names
def test_many_blocks(name, rng, monkeypatch):
    needs(name)
    # Several blocks, the last one shorter.
    monkeypatch.setattr(blocked, "_CACHE", 20_000)
    monkeypatch.setattr(_weight_gradients, "_BLOCK", 5_000)
    x, y, seed = (features(2, rng, batch=(101,), channels=3).requires_grad_() for _ in range(3))
    weights = [w.requires_grad_() for w in factors((2, 2, 2), rng, channels=3)]
    leaves = [x, y, *weights]
    results = [
        gaunt_product(x, y, 2, weights, name),
        product(x, y, 2, False, weights),
    ]
    assert error(*results) <= 1e-12
    gradients = [torch.autograd.grad((z * seed).sum(), leaves) for z in results]
    assert max(error(a, b) for a, b in zip(*gradients, strict=True)) <= 1e-12


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@odds
@names
def test_a_row_that_is_not_finite_leaves_the_others(name, odd, bad, rng):
    needs(name, odd=odd)
    x, y, seed = (features(3, rng, batch=(5,)) for _ in range(3))
    dirty = x.clone()
    dirty[2, 4] = bad
    clean, found = (operation(odd)(t, y, 3, implementation=name) for t in (x, dirty))
    keep = torch.arange(5) != 2
    assert torch.equal(clean[keep], found[keep])
    assert not found[2].isfinite().all()
    y.requires_grad_()
    gradients = [
        torch.autograd.grad((operation(odd)(t, y, 3, implementation=name) * seed).sum(), y)[0]
        for t in (x, dirty)
    ]
    assert torch.equal(gradients[0][keep], gradients[1][keep])


@names
def test_results_are_new_and_contiguous(name, rng):
    needs(name)
    x, y = (features(2, rng).requires_grad_() for _ in range(2))
    z = gaunt_product(x, y, 2, implementation=name)
    assert z.is_contiguous()
    for gradient in torch.autograd.grad(z.sum(), (x, y)):
        assert gradient.is_contiguous()


@pytest.mark.parametrize("name", ["compiled", "separable"])
@dtypes
def test_largest_degree_in_c(name, dtype, rng):
    needs(name, dtype)
    lmax = LARGEST_DEGREE[name]
    x, y = (features(lmax, rng, batch=(5,), dtype=dtype).requires_grad_() for _ in range(2))
    z, expected = (gaunt_product(x, y, lmax, implementation=n) for n in (name, "blocked"))
    assert error(z, expected) <= VALUE[dtype]
    seed = features(lmax, rng, batch=(5,), dtype=dtype)
    found, expected = (torch.autograd.grad(t, (x, y), seed) for t in (z, expected))
    assert max(map(error, found, expected)) <= VALUE[dtype]


@pytest.mark.parametrize("name", ["compiled", "separable"])
def test_degrees_beyond_the_stack_of_the_c_source_are_refused(name, rng):
    needs(name)
    lmax = LARGEST_DEGREE[name] + 1
    x = features(lmax, rng, batch=(2,))
    table = torch.zeros(lmax + 1, lmax + 1, lmax + 1, dtype=x.dtype)
    with pytest.raises(ValueError, match="expected at most"):
        implementations.load(name).product(x, x, (None,) * 3, [table], lmax, False)


def test_largest_degree(rng):
    x, y = (features(30, rng, batch=(1,), channels=1) for _ in range(2))
    results = [gaunt_product(x, y, 30, implementation=name) for name in ("blocked", "fourier")]
    assert error(*results) <= 1e-11
    results = [poisson_product(x, y, 30, implementation=name) for name in ("blocked", "fourier")]
    assert error(*results) <= 1e-11


@pytest.mark.parametrize(
    ("device", "dtype", "lmaxes", "compiler", "expected"),
    [
        ("cpu", torch.float32, (2, 2, 2), "", "compiled"),
        ("cpu", torch.float32, (2, 2, 2), "there is none", "blocked"),
        ("cpu", torch.bfloat16, (2, 2, 2), "", "blocked"),
        ("cpu", torch.float32, (3, 3, 3), "", "compiled"),
        ("cpu", torch.float32, (4, 4, 4), "", "separable"),
        ("cpu", torch.float32, (9, 9, 9), "there is none", "blocked"),
        ("cpu", torch.float32, (1, 10, 10), "", "compiled"),
        ("meta", torch.float32, (2, 2, 2), "", "blocked"),
    ],
    ids=[
        "compiler",
        "no compiler",
        "bfloat16",
        "degree 3",
        "degree 4",
        "high degrees, no compiler",
        "one high degree",
        "other device",
    ],
)
def test_pick(device, dtype, lmaxes, compiler, expected, monkeypatch):
    monkeypatch.setattr(native, "whynot", lambda *_: compiler)
    name, reason = pick(torch.device(device), dtype, lmaxes, False)
    assert name == expected
    assert len(reason) > 10


def test_pick_on_a_gpu(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.setattr(choice, "find_spec", lambda _: None)
    name, reason = pick(device, torch.float32, (2, 2, 2), False)
    assert (name, reason) == ("blocked", "triton cannot run: triton is not installed")
    monkeypatch.undo()
    pytest.importorskip("triton", reason="triton is not installed")
    assert pick(device, torch.float32, (2, 2, 2), False)[0] == "triton"
