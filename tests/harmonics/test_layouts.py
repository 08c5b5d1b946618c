"""Layouts of e3nn: round trips, its own objects, normalisations, both parities."""

import pytest
import torch
from e3nn import o3

from eqlib.harmonics import e3nn_irreps, from_e3nn, spherical_harmonics, to_e3nn, wigner_d
from eqlib.symmetry import Irreps, O

LAYOUTS = ["mul_ir", "ir_mul"]
NORMALIZATIONS = ["integral", "component", "norm"]
layouts = pytest.mark.parametrize("layout", LAYOUTS)
normalizations = pytest.mark.parametrize("normalization", NORMALIZATIONS)
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


def features_like(rng, lmax, channels, complete, *batch, dtype=torch.float64):
    shape = (*batch, *((2,) if complete else ()), (lmax + 1) ** 2, channels)
    return torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)


@normalizations
@layouts
@parities
@pytest.mark.parametrize("batch", [(), (3,), (2, 0), (2, 3)], ids=str)
def test_round_trip(batch, complete, layout, normalization, rng):
    features = features_like(rng, 3, 5, complete, *batch)
    options = {"complete": complete, "layout": layout, "normalization": normalization}
    flat = to_e3nn(features, **options)
    assert flat.shape == (*batch, o3.Irreps(e3nn_irreps(3, 5, complete)).dim)
    back = from_e3nn(flat, 3, **options)
    assert back.is_contiguous()
    torch.testing.assert_close(back, features, rtol=1e-15, atol=0)


@normalizations
def test_harmonics_become_those_of_e3nn(normalization, rng):
    vectors = torch.randn(10, 3, dtype=torch.float64, generator=rng)
    expected = o3.spherical_harmonics(list(range(6)), vectors, True, normalization)
    values = spherical_harmonics(vectors, 5)[..., None]
    torch.testing.assert_close(to_e3nn(values, normalization=normalization), expected)
    # control: the normalisations differ
    other = NORMALIZATIONS[NORMALIZATIONS.index(normalization) - 1]
    assert not torch.allclose(to_e3nn(values, normalization=other), expected)


def test_irreps():
    assert e3nn_irreps(2, 8) == "8x0e+8x1o+8x2e"
    assert e3nn_irreps(1, 3, complete=True) == "3x0e+3x1o+3x0o+3x1e"
    assert e3nn_irreps(0, 0) == "0x0e"


def test_places_of_the_components():
    features = torch.arange(8.0).reshape(4, 2)
    assert to_e3nn(features).tolist() == [0, 1, 2, 4, 6, 3, 5, 7]
    assert to_e3nn(features, layout="ir_mul").tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    both = torch.stack([features, 10 + features])
    assert to_e3nn(both, complete=True).tolist() == [
        *(0, 1, 2, 4, 6, 3, 5, 7),
        *(10, 11, 12, 14, 16, 13, 15, 17),
    ]


@layouts
@parities
@pytest.mark.parametrize("kind", ["rotation", "reflection"])
def test_conversion_commutes_with_the_group(kind, complete, layout, rng):
    lmax, channels = 3, 4
    element = O(3).sample(rng, kinds=[kind])[0]
    features = features_like(rng, lmax, channels, complete)
    natural = torch.block_diag(*wigner_d(element.matrix, lmax))
    if complete:
        rotated = torch.stack([features[0], element.determinant * features[1]])
        rotated = natural @ rotated
    else:
        rotated = natural @ features
    irreps = Irreps(e3nn_irreps(lmax, channels, complete), layout)
    flat = to_e3nn(features, complete, layout)
    expected = irreps.act(element, flat)
    assert (to_e3nn(rotated, complete, layout) - expected).abs().max() < 1e-12
    # control: in the other layout the components are others
    other = Irreps(e3nn_irreps(lmax, channels, complete), LAYOUTS[layout == "mul_ir"])
    assert (to_e3nn(rotated, complete, layout) - other.act(element, flat)).abs().max() > 1e-2


def test_linear_layers_of_e3nn_take_the_result(rng):
    linear = o3.Linear("3x0e+3x1o+3x2e", "3x0e+3x1o+3x2e").double()
    features = features_like(rng, 2, 3, False, 5)
    element = O(3).sample(rng)[0]
    D = torch.block_diag(*wigner_d(element.matrix, 2))
    one, other = (from_e3nn(linear(to_e3nn(x)), 2) for x in (D @ features, features))
    assert (one - D @ other).abs().max() < 1e-12


@layouts
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_dtype_stays(dtype, layout, rng):
    features = features_like(rng, 2, 3, False, 4, dtype=dtype)
    flat = to_e3nn(features, layout=layout)
    assert flat.dtype == dtype
    assert torch.equal(from_e3nn(flat, 2, layout=layout), features)


@parities
def test_any_strides(complete, rng):
    features = features_like(rng, 2, 3, complete, 4)
    view = features.movedim(0, -1).contiguous().movedim(-1, 0)
    assert torch.equal(to_e3nn(view, complete), to_e3nn(features, complete))
    expanded = features[:1].expand(4, *features.shape[1:])
    flat = to_e3nn(expanded, complete)
    assert torch.equal(from_e3nn(flat, 2, complete), expanded)


@parities
@normalizations
def test_derivatives(complete, normalization, rng):
    features = features_like(rng, 2, 2, complete, 1).requires_grad_()
    options = {"complete": complete, "normalization": normalization}
    assert torch.autograd.gradcheck(lambda x: to_e3nn(x, **options), features)
    flat = to_e3nn(features.detach(), **options).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: from_e3nn(x, 2, **options), flat)


@pytest.mark.unchecked
@parities
def test_compiles(complete, rng):
    torch.compiler.reset()

    def both(x):
        flat = to_e3nn(x, complete, normalization="norm")
        return flat, from_e3nn(flat, 1, complete, normalization="component")

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (3, 5):
        features = features_like(rng, 1, count, complete, count).requires_grad_()
        for result, expected in zip(compiled(features), both(features), strict=True):
            torch.testing.assert_close(result, expected)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: to_e3nn(x[:, :8]),
            ValueError,
            r"shape \(2, 8, 4\) with 8 coefficients; expected",
        ),
        (lambda x: to_e3nn(x[:, :0]), ValueError, "with 0 coefficients; expected .* 1 coeff"),
        (lambda x: to_e3nn(x[0, 0]), ValueError, r"shape \(4,\); expected \(\.\.\., \(L\+1\)\^2"),
        (lambda x: to_e3nn(x[:1], complete=True), ValueError, r"expected \(\.\.\., 2, \(L"),
        (lambda x: to_e3nn(x, layout="mul-ir"), ValueError, "layout: expected 'mul_ir' or"),
        (lambda x: to_e3nn(x, normalization="none"), ValueError, "normalization: expected 'int"),
        (lambda x: to_e3nn(x.long()), TypeError, "features has dtype torch.int64"),
        (lambda x: from_e3nn(x, 1.0), TypeError, r"lmax is 1\.0; expected a whole number"),
        (lambda x: from_e3nn(x, -1), ValueError, "lmax is -1"),
        (lambda x: from_e3nn(x, 2), ValueError, "a multiple of 9 components .* 1x0e"),
        (lambda x: from_e3nn(x, 1, complete=True), ValueError, "a multiple of 8 components"),
        (lambda x: from_e3nn(x.long(), 1), TypeError, "features has dtype torch.int64"),
        (lambda x: e3nn_irreps(2, -1), ValueError, "channels is -1; expected at least 0"),
    ],
    ids=[
        *("no square", "nothing", "vector", "one parity", "layout", "normalization", "integers"),
        *("fraction", "negative", "not a multiple", "odd multiple", "flat integers", "channels"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.ones(2, 9, 4))
