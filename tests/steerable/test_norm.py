"""Layer norm of spherical tensors: values, scale, and derivatives at zero and at extremes."""

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.steerable import EquivariantLayerNorm
from tests.steerable.layers import degrees_of, features, layer

EPS = 1e-5
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])
options = pytest.mark.parametrize("per_degree", [False, True], ids=["together", "per-degree"])


def named(per_degree):
    return "norm-per-degree" if per_degree else "norm"


def written_out(x, weight, bias, per_degree):
    """The definition, one item (2, S, C) or (S, C) at a time, in loops."""
    x = x if x.ndim == 3 else x[None]
    weight = weight if weight.ndim == 3 else weight[None]
    lmax = weight.shape[1] - 1
    keys = [(parity, degree) for parity in range(len(x)) for degree in range(lmax + 1)][1:]
    blocks = {key: x[key[0], degrees_of(lmax)[key[1]]] for key in keys}
    squares = {
        key: sum((v * v).sum() for v in block) / block.numel() for key, block in blocks.items()
    }
    if not per_degree and keys:
        squares = dict.fromkeys(keys, sum(squares.values()) / len(squares))
    result = torch.empty_like(x)
    for key in keys:
        scale = weight[key] / torch.sqrt(squares[key] + EPS)
        result[key[0], degrees_of(lmax)[key[1]]] = blocks[key] * scale
    scalars = torch.nn.functional.layer_norm(x[0, 0], x.shape[-1:], eps=EPS)
    result[0, 0] = scalars * weight[0, 0] + bias
    return result


@options
@parities
@pytest.mark.parametrize("lmax", [0, 1, 4])
def test_matches_the_definition(lmax, complete, per_degree, rng):
    module = layer(named(per_degree), rng, lmax, complete)
    scale = torch.linspace(0.1, 3, (lmax + 1) ** 2)[:, None]  # degrees of different size
    x = features(rng, 3, lmax=lmax, complete=complete) * scale + 0.2
    with torch.no_grad():
        result = module(x)
        for item, output in zip(x, result, strict=True):
            expected = written_out(item, module.weight, module.bias, per_degree)
            torch.testing.assert_close(output, expected.reshape(output.shape))


def test_scalars_alone_are_layer_normed(rng):
    module, x = layer("norm", rng, 0), features(rng, 5, lmax=0)
    expected = torch.nn.functional.layer_norm(x, x.shape[-1:], module.weight[0], module.bias, EPS)
    torch.testing.assert_close(module(x), expected)


@parities
@options
def test_root_mean_squares_of_the_result(complete, per_degree, rng):
    module = EquivariantLayerNorm(3, 8, complete, per_degree).double()
    x = features(rng, 5, lmax=3, complete=complete, channels=8)
    x[..., 4:9, :] *= 5
    result = module(x).unflatten(0, (5, 1)) if not complete else module(x)
    powers = [result[:, :, part].square().mean((-1, -2)) for part in degrees_of(3)]
    powers = torch.stack(powers, -1).flatten(1)
    torch.testing.assert_close(powers[:, 0], torch.ones_like(powers[:, 0]), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        powers[:, 1:].mean(-1), torch.ones_like(powers[:, 0]), rtol=1e-3, atol=0
    )
    sizes = powers[:, 2] / powers[:, 1]
    # per degree all become equally large; together they keep their ratios
    assert (sizes.log().abs() < 1e-3).all() if per_degree else (sizes > 5).all()


@options
@parities
def test_the_scale_of_the_input_does_not_matter(complete, per_degree, rng):
    module = layer(named(per_degree), rng, 2, complete)
    x = 1e4 * features(rng, 5, complete=complete)
    torch.testing.assert_close(module(64 * x), module(x), rtol=1e-6, atol=1e-6)


@options
@parities
def test_zero_features_and_derivatives_there(complete, per_degree, rng):
    module = layer(named(per_degree), rng, 1, complete)
    zero = 0 * features(rng, 2, lmax=1, complete=complete)
    result = module(zero)
    rows = result.flatten(1, -2)
    assert torch.equal(rows[:, 0], module.bias.detach().expand(2, -1))
    assert (rows[:, 1:] == 0).all()
    zero.requires_grad_()
    assert gradcheck(module, (zero,), eps=1e-7, atol=1e-4)
    gradient = grad(module(zero).sum(), zero, create_graph=True)[0]
    assert (gradient.flatten(1, -2)[:, 1:].abs() <= 4 * EPS**-0.5).all()
    (second,) = grad(gradient.square().sum(), zero)
    assert (second == 0).all()


@options
@parities
def test_nearly_zero_blocks(complete, per_degree, rng):
    module = layer(named(per_degree), rng, 1, complete)
    x = features(rng, 2, lmax=1, complete=complete)
    x[..., 1:, :] *= 1e-9
    x = x.requires_grad_()
    assert gradcheck(module, (x,), eps=1e-8, atol=1e-4)
    assert gradgradcheck(module, (x,), eps=1e-6, atol=1e-3)


@options
@parities
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_squares_neither_over_nor_underflow(size, complete, per_degree, rng):
    module = layer(named(per_degree), rng, 2, complete, torch.float32)
    x = size * features(rng, 5, complete=complete, dtype=torch.float32)
    x[0, ..., 1:, :] /= size  # scalars and other degrees apart by 30 digits
    exact = layer(named(per_degree), rng, 2, complete)
    exact.load_state_dict(module.state_dict())
    results, gradients = [], []
    for run, y in ((module, x), (exact, x.double())):
        y.requires_grad_()
        results.append(run(y))
        gradients.append(grad(results[-1].square().sum(), y)[0])
    torch.testing.assert_close(results[0].double(), results[1], rtol=1e-5, atol=1e-6)
    scale = gradients[1].abs().amax(-1, keepdim=True)
    assert ((gradients[0] - gradients[1]).abs() <= 1e-5 * scale + 1e-37).all()


def test_large_half_precision_features_do_not_overflow(rng):
    module = layer("norm", rng, 2, dtype=torch.float16)
    x = 1e4 * features(rng, 5, dtype=torch.float16)
    assert module(x).isfinite().all()


@pytest.mark.unchecked
@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_eps_has_to_be_positive(eps):
    with pytest.raises(ValueError, match="eps: expected a positive number, got"):
        EquivariantLayerNorm(2, 4, eps=eps)
