"""Many-body products: values against repeated products, chirality, and the contract with torch."""

from itertools import product

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from eqlib.gaunt import GauntManyBody, gaunt_product, poisson_product
from eqlib.kernels.gaunt_many_body import blocked
from eqlib.symmetry import O, assert_equivariant, equivariance_error
from tests.gaunt.many_bodies import CHANNELS, inputs, layer
from tests.gaunt.oracle import error, weighted
from tests.tolerances import EQUIVARIANCE

parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


def powers(natural, other, order, truncate=None):
    """The products n^i p^j with i + j <= order by repeated products, cut at a degree or not."""
    found = {(0, 0): None}
    for i, j in sorted(product(range(order + 1), repeat=2), key=sum):
        if 0 < i + j <= order:
            factor, before = (natural, (i - 1, j)) if i else (other, (i, j - 1))
            found[i, j] = factor if before == (0, 0) else times(found[before], factor, truncate)
    return found


def times(x, y, truncate=None):
    """The whole product of two functions, or its part up to a degree."""
    if x is None or y is None:
        return y if x is None else x
    lmax = degree(x) + degree(y)
    return gaunt_product(x, y, lmax if truncate is None else min(lmax, truncate))


def degree(x):
    return int(x.shape[-2] ** 0.5) - 1


def cut(x, lmax):
    """Coefficients up to a degree, with zeros where there are none."""
    size = (lmax + 1) ** 2
    return torch.nn.functional.pad(x, (0, 0, 0, max(size - x.shape[-2], 0)))[..., :size, :]


def brackets(module, features, scale):
    """The brackets of both linear maps of the features: natural, and of the other parity."""
    x = weighted_features(features, scale)
    g, h = (linear(x).unbind(-3) for linear in (module.first, module.second))
    lmax = max(2 * module.lmax - 1, 0)
    return [
        poisson_product(g[0], h[1 - same], lmax) + poisson_product(g[1], h[same], lmax)
        for same in (0, 1)
    ]


def weighted_features(features, weight):
    return torch.stack([weighted(part, weight) for part in features.unbind(-3)], -3)


def expected(module, features, species, truncate=None):
    """One node at a time, by repeated exact products; truncating them gives another function."""
    rows = features if module.complete else features.unsqueeze(-3)
    found = []
    for x, kind in zip(rows, species, strict=True):
        weights = module.weight_in[kind] * module.input_scale
        functions = [weighted(part, w) for part, w in zip(x, weights, strict=True)]
        other = functions[1] if module.complete else torch.zeros_like(x[0])
        monomials = powers(functions[0], other, module.order, truncate)
        terms = [((i, j), j % 2, monomials[i, j]) for i, j in sorted(monomials) if i + j]
        if module.complete:
            for parity, bracket in enumerate(
                brackets(module, x, module.input_scale.expand(-1, CHANNELS))
            ):
                short = [(i, j) for i, j in sorted(monomials) if i + j <= module.order - 2]
                terms += [
                    ((i, j), (parity + j) % 2, times(bracket, monomials[i, j], truncate))
                    for i, j in short
                ]
        else:
            terms = [term for term in terms if term[0][1] == 0]
        shape = (2, (module.lmax_out + 1) ** 2, CHANNELS)
        z = torch.zeros(shape, dtype=torch.float64)
        weights = module.weight[kind] * module.part_scale
        assert len(terms) == len(weights)
        for weight, (_, parity, function) in zip(weights, terms, strict=True):
            z[parity] += weight * cut(function, module.lmax_out)
        out = module.weight_out[kind] * module.output_scale
        found.append(
            torch.stack([weighted(part, w) for part, w in zip(z, out, strict=len(out) == 2)])
        )
    stacked = torch.stack(found)
    return stacked if module.complete else stacked[:, 0]


@pytest.mark.parametrize(
    ("lmax", "order", "lmax_out"),
    [(1, 2, 1), (2, 2, 4), (2, 3, 2), (3, 3, 1), (1, 4, 4), (2, 4, 2), (3, 4, 3)],
    ids=lambda value: str(value),
)
@parities
def test_values_are_repeated_exact_products(lmax, order, lmax_out, complete, rng):
    module = layer(rng, lmax, order, lmax_out, complete)
    features, species = inputs(module, rng, 4)
    z = module(features, species)
    assert error(z, expected(module, features, species)) <= 1e-12
    if order > 2:  # control: degrees cut off between the factors are missed
        assert error(z, expected(module, features, species, truncate=lmax)) > 1e-3


@pytest.mark.parametrize("implementation", ["naive", "blocked"])
@pytest.mark.parametrize("values", [1, 3000], ids=["single-rows", "few-rows"])
@parities
def test_implementations_agree(implementation, values, complete, monkeypatch, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 7)
    expected = module(features, species)
    monkeypatch.setattr(blocked, "CPU_VALUES", values)
    module.implementation = implementation
    assert error(module(features, species), expected) <= 1e-12


@pytest.mark.parametrize("order", [2, 3, 4])
@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_commutes_with_rotations_and_reflections(order, complete, dtype, rng):
    module = layer(rng, order=order, complete=complete, dtype=dtype)
    features, species = inputs(module, rng, 4, dtype=dtype)
    given = {"features": features, "species": species}
    report = equivariance_error(module, given, generator=rng)
    assert report.signature.group == O(3)
    assert report.max < EQUIVARIANCE[dtype]
    given = {"features": features[0], "species": species[0]}
    assert_equivariant(module, given, generator=rng)


@parities
def test_control_weights_per_component_are_rejected(complete, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 4)
    weight = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)[:, None]
    wrong = equivariance_error(
        lambda features: module(features * weight, species),
        {"features": features},
        module.signature,
        generator=rng,
    )
    assert wrong.max > 1e-2


def test_control_a_bracket_of_the_wrong_parity_is_rejected(rng):
    module = layer(rng, complete=True)
    features, species = inputs(module, rng, 4)
    wrong = equivariance_error(
        lambda features: module(features, species).flip(-3),
        {"features": features},
        module.signature,
        generator=rng,
    )
    kinds = wrong.errors["output"]
    assert max(kinds["rotation"]) < 1e-12 < 1e-2 < max(kinds["reflection"])


@pytest.mark.parametrize(("lmax", "order", "lmax_out"), [(1, 2, 2), (3, 3, 3), (2, 4, 2)], ids=str)
@parities
def test_outputs_start_with_unit_mean_square(lmax, order, lmax_out, complete, rng):
    width = 400 if complete else 2000
    module = GauntManyBody(lmax, width, order, lmax_out, complete=complete)
    module.reset_parameters(rng)
    features, _ = inputs(module, rng, 20, dtype=torch.float32)
    squares = module(features).square().mean((0, -1))
    for degree in range(lmax_out + 1):
        means = squares[..., degree**2 : (degree + 1) ** 2].mean(-1)
        assert (means - 1).abs().max() < 0.35


@parities
def test_species_choose_the_weights(complete, rng):
    module = layer(rng, complete=complete, species=3)
    features, species = inputs(module, rng, 5)
    z = module(features, species)
    for kind in range(3):
        single = layer(rng, complete=complete, species=1)
        state = module.state_dict()
        own = {
            name: value[kind : kind + 1] if name.startswith("weight") else value
            for name, value in state.items()
        }
        single.load_state_dict(own)
        torch.testing.assert_close(single(features)[species == kind], z[species == kind])
        zeros = torch.zeros_like(species)
        torch.testing.assert_close(single(features, zeros), single(features))
    assert not torch.allclose(module(features, (species + 1) % 3), z)


@parities
def test_derivatives_of_first_and_second_order(complete, rng):
    module = layer(rng, 1, 3, 1, complete)
    parameters = dict(module.named_parameters())
    features, species = inputs(module, rng, 2)
    features.requires_grad_()

    def function(features, *weights):
        named = dict(zip(parameters, weights, strict=True))
        return functional_call(module, named, (features, species))

    assert gradcheck(function, (features, *parameters.values()), fast_mode=True)
    assert gradgradcheck(function, (features, *parameters.values()), fast_mode=True)


@parities
def test_the_backward_pass_keeps_no_grid_values(complete, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 100)
    features.requires_grad_()
    kept = {}

    def remember(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        module(features, species)
    size = features.numel() * features.element_size()
    # Inputs, outputs, their weights, weighted copies and the operands of brackets.
    limit = (10 if complete else 6) * size
    assert sum(kept.values()) < limit
    variables = 10 if complete else 3  # values and slopes; powers
    assert limit < variables * module.tables.shape[1] * 100 * CHANNELS * features.element_size()
