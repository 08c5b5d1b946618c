"""Gaunt layers on e3nn's tensors, and e3nn's products equal to them."""

import pytest
import torch
from e3nn import o3

from eqlib.gaunt import GauntManyBody, GauntTensorProduct
from eqlib.harmonics import from_e3nn, to_e3nn
from eqlib.symmetry import Irreps, O, Signature, assert_equivariant
from tests.gaunt.oracle import VALUE, error

CHANNELS = 4
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])
# Degrees, rank, channels of y.
CASES = {
    "equal": ((2, 2, 2), 1, CHANNELS),
    "mixed": ((2, 1, 3), 3, CHANNELS),
    "filter": ((1, 3, 2), 2, 1),
}
cases = pytest.mark.parametrize("case", list(CASES))


def layer(case, complete, rng):
    degrees, rank, channels2 = CASES[case]
    module = GauntTensorProduct(*degrees, CHANNELS, complete, rank=rank, channels2=channels2)
    module.reset_parameters(rng)
    return module.double()


def e3nn_inputs(module, rng, batch=6, dtype=torch.float64):
    """Normal components of the irreps that a layer names."""
    return [
        torch.randn(batch, o3.Irreps(irreps).dim, dtype=torch.float64, generator=rng).to(dtype)
        for irreps in (module.irreps_in1, module.irreps_in2)
    ]


def through_layer(module, x, y, normalization="integral", layout="mul_ir"):
    """The layer on e3nn's tensors."""
    form = {"complete": module.complete, "layout": layout, "normalization": normalization}
    z = module(from_e3nn(x, module.lmax1, **form), from_e3nn(y, module.lmax2, **form))
    return to_e3nn(z, **form)


@cases
@parities
@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
def test_the_e3nn_module_is_equal(case, complete, normalization, rng):
    module = layer(case, complete, rng)
    twin = module.to_e3nn_module(normalization)
    x, y = e3nn_inputs(module, rng)
    expected = twin(x, y)
    assert error(through_layer(module, x, y, normalization), expected) <= 1e-12
    # control: another normalisation is another function
    other = "component" if normalization != "component" else "norm"
    assert error(through_layer(module, x, y, other), expected) > 1e-2


@parities
def test_the_e3nn_module_of_a_layer_without_weights(complete, rng):
    module = GauntTensorProduct(2, 2, 2, CHANNELS, complete, weights=False).double()
    x, y = e3nn_inputs(module, rng)
    assert error(through_layer(module, x, y), module.to_e3nn_module()(x, y)) <= 1e-12


def test_the_e3nn_module_has_the_dtype_of_the_layer(rng):
    module = layer("equal", True, rng).float()
    x, y = e3nn_inputs(module, rng, dtype=torch.float32)
    found = module.to_e3nn_module()(x, y)
    assert found.dtype == torch.float32
    assert error(through_layer(module, x, y), found) <= 2 * VALUE[torch.float32]


@pytest.mark.parametrize(
    ("lmax", "even", "every"), [(1, 4, 20), (2, 11, 60), (3, 23, 136)], ids=str
)
def test_the_e3nn_module_has_one_weight_per_path_and_channel(lmax, even, every):
    """Even paths of one parity; of both parities, all paths, four times."""
    for complete, count in ((False, even), (True, every)):
        twin = GauntTensorProduct(lmax, lmax, lmax, CHANNELS, complete).to_e3nn_module()
        assert len(twin.instructions) == count
        assert twin.weight_numel == count * CHANNELS
        assert {i.connection_mode for i in twin.instructions} == {"uuu"}


def test_the_e3nn_module_learns_on_its_own(rng):
    module = layer("equal", False, rng)
    twin = module.to_e3nn_module()
    x, y = e3nn_inputs(module, rng)
    before = through_layer(module, x, y)
    with torch.no_grad():
        twin.weight.add_(1.0)
    assert torch.equal(through_layer(module, x, y), before)
    twin(x, y).sum().backward()
    assert twin.weight.grad.abs().max() > 0


@cases
@parities
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_layers_commute_with_the_action_of_e3nn(case, complete, layout, rng):
    module = layer(case, complete, rng)
    x, y = e3nn_inputs(module, rng)
    names = (module.irreps_in1, module.irreps_in2, module.irreps_out)
    one, two, out = (Irreps(irreps, layout=layout) for irreps in names)
    signature = Signature(O(3), {"x": one, "y": two}, out)
    assert_equivariant(
        lambda x, y: through_layer(module, x, y, layout=layout),
        {"x": x, "y": y},
        signature,
        generator=rng,
    )


@parities
@pytest.mark.parametrize("normalization", ["integral", "component"])
def test_many_body_layers_between_linear_layers_of_e3nn(complete, normalization, rng):
    module = GauntManyBody(2, CHANNELS, 3, 1, complete=complete)
    module.reset_parameters(rng)
    form = {"complete": complete, "normalization": normalization}
    before = o3.Linear("5x0e+7x1o+2x1e+3x2e", module.irreps_in)
    after = o3.Linear(module.irreps_out, "2x0e+2x1o")

    def network(x):
        return after(to_e3nn(module(from_e3nn(before(x), 2, **form)), **form))

    x = torch.randn(6, before.irreps_in.dim, generator=rng)
    signature = Signature(O(3), {"x": Irreps(str(before.irreps_in))}, Irreps("2x0e+2x1o"))
    assert_equivariant(network, {"x": x}, signature, generator=rng)


def test_a_filter_of_harmonics_is_an_input_of_e3nn(rng):
    """The usual message: features times the harmonics of an edge, as e3nn normalises them."""
    module = layer("filter", False, rng)
    twin = module.to_e3nn_module("component")
    x, _ = e3nn_inputs(module, rng)
    edges = torch.randn(6, 3, dtype=torch.float64, generator=rng)
    harmonics = o3.spherical_harmonics(
        o3.Irreps(module.irreps_in2), edges, normalize=True, normalization="component"
    )
    assert error(through_layer(module, x, harmonics, "component"), twin(x, harmonics)) <= 1e-12


@pytest.mark.unchecked
def test_an_unknown_normalization_is_named():
    with pytest.raises(ValueError, match="normalization: expected 'integral'"):
        GauntTensorProduct(1, 1, 1, 2).to_e3nn_module("unit")
