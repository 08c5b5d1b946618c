"""Many-body layers under torch: compilation, precision, state, and wrong arguments."""

import copy
import pickle

import pytest
import torch
from torch.autograd import grad
from torch.export import Dim, export

from eqlib.gaunt import GauntManyBody
from tests.gaunt.many_bodies import inputs, layer
from tests.gaunt.oracle import VALUE, error
from tests.tolerances import EQUIVARIANCE

parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


@pytest.mark.unchecked
@parities
def test_compiles_to_one_graph_for_any_batch(complete, rng):
    torch._dynamo.reset()
    module = layer(rng, 1, 2 if complete else 3, 1, complete)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 8):
        features, species = inputs(module, rng, batch)
        features.requires_grad_()
        outputs = module(features, species), compiled(features, species)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(grad(z.square().sum(), features)[0] for z in outputs))


@pytest.mark.unchecked
@parities
def test_exports_for_any_batch(complete, rng):
    module = layer(rng, complete=complete)
    shapes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    program = export(module, inputs(module, rng, 3), dynamic_shapes=shapes)
    for batch in (2, 7):
        given = inputs(module, rng, batch)
        torch.testing.assert_close(program.module()(*given), module(*given))


@parities
def test_any_batch_empty_ones_too(complete, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 2, 3)
    z = module(features, species)
    assert z.shape == (2, 3, *features.shape[2:])
    torch.testing.assert_close(module(features[0, 0], species[0, 0]), z[0, 0])
    swapped = module(features.movedim(0, 1), species.movedim(0, 1))
    torch.testing.assert_close(swapped, z.movedim(0, 1))
    expanded = module(features[:1].expand_as(features), species)
    torch.testing.assert_close(expanded[0], z[0])
    empty = features[:0].requires_grad_()
    assert module(empty, species[:0]).shape == (0, *z.shape[1:])
    module(empty, species[:0]).sum().backward()
    assert empty.grad.shape == empty.shape


@parities
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precision(complete, dtype, rng):
    module = layer(rng, complete=complete, dtype=dtype)
    features, species = inputs(module, rng, 20, dtype=dtype)
    z = module(features, species)
    exact = copy.deepcopy(module).double()(features.double(), species)
    assert z.dtype == dtype
    # A product of several factors, each rounded to the dtype.
    assert error(z, exact) <= 4 * VALUE[dtype]
    assert module.tables.dtype == torch.float64


@parities
def test_autocast(complete, rng):
    module = layer(rng, complete=complete, dtype=torch.float32)
    features, species = inputs(module, rng, 20, dtype=torch.float32)
    exact = module(features, species)
    with torch.autocast("cpu", torch.bfloat16):
        results = [module(x, species) for x in (features, features.bfloat16())]
    assert [z.dtype for z in results] == [torch.float32, torch.bfloat16]
    assert max(error(z, exact) for z in results) <= EQUIVARIANCE[torch.bfloat16]


@parities
def test_a_row_with_nan_leaves_other_rows_alone(complete, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 4)
    before = module(features, species)
    features[1, ..., 0, 0] = torch.nan
    after = module(features, species)
    assert after[1].isnan().any()
    kept = [0, 2, 3]
    assert torch.equal(after[kept], before[kept])


@parities
def test_state_and_copies(complete, rng):
    module = layer(rng, complete=complete)
    given = inputs(module, rng, 4)
    linear = {"first.weight", "second.weight"} if complete else set()
    assert set(module.state_dict()) == {"weight_in", "weight", "weight_out"} | linear
    other = layer(rng, complete=complete)
    assert not torch.equal(other(*given), module(*given))
    other.load_state_dict(module.state_dict())
    for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(*given), module(*given))


@parities
def test_conversion_rounds_no_constants(complete, rng):
    module = layer(rng, complete=complete)
    given = inputs(module, rng, 4)
    other = copy.deepcopy(module).half().double()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(*given), module(*given))
    with torch.device("meta"):
        empty = layer(rng, complete=complete)
    empty.to_empty(device="cpu").load_state_dict(module.state_dict())
    assert torch.equal(empty(*given), module(*given))


def test_the_layer_prints_its_options():
    text = repr(GauntManyBody(2, 8, 4, complete=True))
    assert "lmax=2, channels=8, order=4, lmax_out=2, num_species=1, complete=True" in text


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lmax": 0}, ValueError, "lmax: expected an integer of at least 1, got 0"),
        ({"channels": 2.0}, TypeError, "channels: expected an integer, got 2.0"),
        ({"order": 5}, ValueError, "order: expected 2, 3 or 4, got 5"),
        ({"order": 1}, ValueError, "order: expected 2, 3 or 4, got 1"),
        ({"lmax_out": 7}, ValueError, r"lmax_out: got 7; expected at most order \* lmax = 6"),
        ({"num_species": 0}, ValueError, "num_species: expected an integer of at least 1"),
        ({"implementation": "fast"}, ValueError, "implementation: got 'fast'; expected one of"),
    ],
    ids=["lmax", "channels", "high-order", "low-order", "lmax_out", "species", "implementation"],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        GauntManyBody(**{"lmax": 2, "channels": 4, "order": 3, **options})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("features", "species", "error", "message"),
    [
        ((5, 8, 3), [0] * 5, ValueError, r"features: expected shape \(..., 9, 3"),
        ((5, 9, 3), None, ValueError, "species: got None; expected one of 0 ... 1"),
        ((5, 9, 3), [0] * 4, ValueError, r"species: got shape \(4,\); expected .* \(5,\)"),
        ((5, 9, 3), [0, 1, 2, 0, 0], ValueError, "species: got 0 ... 2; expected 0 ... 1"),
        ((5, 9, 3), [0.0] * 5, TypeError, "species: expected torch.int64, got torch.float32"),
    ],
    ids=["coeffs", "missing", "count", "range", "floats"],
)
def test_wrong_inputs_are_named(features, species, error, message, rng):
    species = None if species is None else torch.tensor(species)
    with pytest.raises(error, match=message):
        layer(rng)(torch.zeros(features, dtype=torch.float64), species)


@pytest.mark.gpu
@parities
def test_the_gpu_agrees_with_the_cpu(complete, rng):
    module = layer(rng, complete=complete)
    features, species = inputs(module, rng, 50)
    features.requires_grad_()
    expected = module(features, species)
    other = copy.deepcopy(module).cuda()
    assert other.tables.is_cuda
    found = other(features.cuda(), species.cuda())
    assert error(found.cpu(), expected) <= 1e-12
    gradients = [grad(z.square().sum(), features)[0] for z in (found, expected)]
    assert error(*gradients) <= 3e-12
