"""The learned tensor product: values, paths, symmetry, derivatives and its contract with torch."""

import copy
import pickle
from itertools import product
from math import pi, sqrt

import pytest
import torch
from e3nn import o3
from sympy.physics.wigner import wigner_3j
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.export import Dim, export
from torch.func import functional_call

from eqlib.gaunt import GauntTensorProduct, gaunt_product
from eqlib.gaunt.e3nn_interop import TERMS, paths
from eqlib.symmetry import O, assert_equivariant, equivariance_error
from tests.gaunt.oracle import VALUE, error
from tests.tolerances import EQUIVARIANCE

CHANNELS = 3
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])
# Degrees of x, y and the output, rank, channels of y.
CASES = {
    "scalars": ((0, 0, 0), 1, CHANNELS),
    "equal": ((2, 2, 2), 1, CHANNELS),
    "mixed": ((2, 1, 3), 2, CHANNELS),
    "filter": ((1, 3, 2), 1, 1),
}
cases = pytest.mark.parametrize("case", list(CASES))


def layer(case, complete, rng, dtype=torch.float64):
    """A layer whose weights are all random."""
    degrees, rank, channels2 = CASES[case]
    module = GauntTensorProduct(*degrees, CHANNELS, complete, rank=rank, channels2=channels2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=rng)
    return module.to(dtype)


def inputs(module, rng, *batch, dtype=torch.float64):
    """Normal features x and y that fit a layer."""
    parity = (2,) if module.complete else ()
    return [
        torch.randn(*batch, *parity, (lmax + 1) ** 2, width, dtype=torch.float64, generator=rng).to(
            dtype
        )
        for lmax, width in ((module.lmax1, module.channels), (module.lmax2, module.channels2))
    ]


def constant(l1, l2, l3):
    """The published constants between Gaunt or bracket coefficients and 3j symbols."""
    sizes = sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * pi))
    if (l1 + l2 + l3) % 2 == 0:
        return sizes * abs(float(wigner_3j(l1, l2, l3, 0, 0, 0)))
    slopes = sqrt(l1 * (l1 + 1) * l2 * (l2 + 1))
    return slopes * sizes * abs(float(wigner_3j(l1, l2, l3, 1, -1, 0)))


def expected(module, x, y):
    """The sum over Clebsch-Gordan paths, with e3nn's coefficients."""
    weights = module.path_weights().double()
    x, y = x.double(), y.double()
    if not module.complete:
        x, y = x.unsqueeze(-3), y.unsqueeze(-3)
    batch = torch.broadcast_shapes(x.shape[:-3], y.shape[:-3])
    z = torch.zeros(*batch, 2, (module.lmax_out + 1) ** 2, module.channels, dtype=torch.float64)
    ranges = (range(lmax + 1) for lmax in (module.lmax1, module.lmax2, module.lmax_out))
    for l1, l2, l3 in product(*ranges):
        odd = (l1 + l2 + l3) % 2
        if abs(l1 - l2) > l3 or l3 > l1 + l2 or (odd and not module.complete):
            continue
        table = constant(l1, l2, l3) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        for term, (p1, p2) in enumerate(TERMS[: weights.shape[1]]):
            z[..., (p1 + p2 + odd) % 2, l3**2 : (l3 + 1) ** 2, :] += weights[
                odd, term, l1, l2, l3
            ] * torch.einsum(
                "abc,...ak,...bk->...ck",
                table,
                x[..., p1, l1**2 : (l1 + 1) ** 2, :],
                y[..., p2, l2**2 : (l2 + 1) ** 2, :],
            )
    return z if module.complete else z[..., 0, :, :]


@cases
@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_values_are_sums_of_clebsch_gordan_paths(case, complete, dtype, rng):
    module = layer(case, complete, rng, dtype)
    x, y = inputs(module, rng, 20, dtype=dtype)
    z = module(x, y)
    assert z.dtype == dtype
    assert z.is_contiguous()
    # A complete output adds four products, each rounded.
    assert error(z, expected(module, x, y)) <= VALUE[dtype] * (2 if complete else 1)


@pytest.mark.parametrize("implementation", ["naive", "fourier", "blocked"])
@parities
def test_implementations_agree(implementation, complete, rng):
    module = layer("mixed", complete, rng)
    x, y = inputs(module, rng, 5)
    chosen = copy.deepcopy(module)
    chosen.implementation = implementation
    assert error(chosen(x, y), module(x, y)) <= 1e-12


def test_without_weights_it_is_the_plain_product(rng):
    module = GauntTensorProduct(2, 1, 3, CHANNELS, weights=False).double()
    x, y = inputs(module, rng, 4)
    assert list(module.parameters()) == []
    assert torch.equal(module(x, y), gaunt_product(x, y, 3))
    assert error(module(x, y), expected(module, x, y)) <= 1e-12


def all_paths(lmax, complete):
    """The response of a layer with unit weights to all pairs of components, and e3nn's paths."""
    module = GauntTensorProduct(lmax, lmax, lmax, 1, complete, weights=False).double()
    size = (2 if complete else 1) * (lmax + 1) ** 2
    shape = (size, *((2,) if complete else ()), (lmax + 1) ** 2, 1)
    units = torch.eye(size, dtype=torch.float64).reshape(shape)
    table = module(units[:, None], units[None]).reshape(size, size, size)
    irreps = o3.Irreps(module.irreps_out)
    reference = o3.FullyConnectedTensorProduct(irreps, irreps, irreps)
    allowed = {(i.i_in1, i.i_in2, i.i_out) for i in reference.instructions}
    return table, irreps, allowed


@pytest.mark.parametrize("lmax", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow)])
@parities
def test_every_clebsch_gordan_path_is_there_with_complete_only(lmax, complete, rng):
    table, irreps, allowed = all_paths(lmax, complete)
    found = set()
    for (i, one), (j, two), (k, three) in product(enumerate(irreps.slices()), repeat=3):
        block = table[one, two, three]
        if (i, j, k) not in allowed:
            assert not block.abs().max() > 1e-12
            continue
        coefficients = o3.wigner_3j(*(irreps[n].ir.l for n in (i, j, k)), dtype=torch.float64)
        factor = float((block * coefficients).sum())
        assert (block - factor * coefficients).abs().max() <= 1e-12
        if abs(factor) > 1e-3:
            found.add((i, j, k))
    assert found <= allowed
    if complete:
        assert found == allowed
    else:  # those with an even sum of the degrees
        assert found == {path for path in allowed if sum(path) % 2 == 0}
        assert len(allowed) == len(found), "natural parity itself forbids odd sums"


def test_no_pseudovector_from_vectors_without_brackets(rng):
    """What natural parity cannot hold: the cross product of two vectors."""
    vectors = torch.randn(2, 5, 3, 1, dtype=torch.float64, generator=rng)
    x, y = (torch.cat([v.new_zeros(5, 1, 1), v], -2) for v in vectors)
    cross = torch.linalg.cross(*vectors, dim=-2)
    natural = GauntTensorProduct(1, 1, 1, 1, weights=False).double()(x, y)
    assert natural[:, 1:].abs().max() <= 1e-12
    module = GauntTensorProduct(1, 1, 1, 1, complete=True, weights=False).double()
    both = module(*(torch.stack([f, torch.zeros_like(f)], -3) for f in (x, y)))
    torch.testing.assert_close(both[:, 1, 1:], sqrt(3 / (4 * pi)) * cross, rtol=0, atol=1e-12)
    assert both[:, 0, 1:].abs().max() <= 1e-12


@pytest.mark.parametrize("degrees", [(2, 2, 2), (3, 2, 3)], ids=str)
def test_every_path_of_a_complete_layer_has_weights_of_its_own_term(degrees, rng):
    module = GauntTensorProduct(*degrees, 1, complete=True).double()
    for path in paths(degrees, complete=True):
        weight = module.path_weights()[path.kind, path.term, *path.degrees].sum()
        gradients = grad(weight, [module.weight1, module.weight2, module.weight_out])
        for gradient, degree in zip(gradients, path.degrees, strict=True):
            where = gradient.nonzero()
            assert where.tolist() == [[0, path.kind, degree, path.term, 0]]


def distance_from_clebsch_gordan(lmax, rank, rng, starts):
    """Smallest distance of a sum of products from equal weights of all paths, relative."""
    found = paths((lmax, lmax, lmax), complete=False)
    target = torch.tensor([1 / constant(*path.degrees) for path in found], dtype=torch.float64)
    indices = torch.tensor([path.degrees for path in found]).T
    best = 1.0
    for _ in range(starts):
        shape = (3, rank, lmax + 1)
        weights = torch.randn(shape, dtype=torch.float64, generator=rng).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=2000, tolerance_grad=1e-14, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def distance(weights=weights):
            u, v, w = (weights[i][:, indices[i]] for i in range(3))
            return ((u * v * w).sum(0) - target).square().sum() / target.square().sum()

        def closure(distance=distance, optimizer=optimizer):
            optimizer.zero_grad()
            value = distance()
            value.backward()
            return value

        optimizer.step(closure)
        best = min(best, float(distance().detach().sqrt()))
    return best


@pytest.mark.parametrize(
    ("lmax", "rank"), [(2, 2), pytest.param(3, 3, marks=pytest.mark.slow)], ids=str
)
def test_a_few_products_reach_equal_weights_of_all_paths(lmax, rank, rng):
    assert distance_from_clebsch_gordan(lmax, rank, rng, starts=6) < 1e-6
    assert distance_from_clebsch_gordan(lmax, 1, rng, starts=2) > 1e-2


@parities
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("degrees", [(1, 1, 1), (3, 2, 4)], ids=str)
def test_outputs_start_with_unit_variance(degrees, rank, complete, rng):
    module = GauntTensorProduct(*degrees, 4000, complete, rank=rank)
    module.reset_parameters(rng)
    z = module(*inputs(module, rng, 30, dtype=torch.float32)).square().mean((0, -1))
    for degree in range(module.lmax_out + 1):
        means = z[..., degree**2 : (degree + 1) ** 2].mean(-1)
        assert (means - 1).abs().max() < 0.15


@cases
@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_commutes_with_rotations_and_reflections(case, complete, dtype, rng):
    module = layer(case, complete, rng, dtype)
    x, y = inputs(module, rng, 4, dtype=dtype)
    report = equivariance_error(module, {"x": x, "y": y}, generator=rng)
    assert report.signature.group == O(3)
    assert report.max < EQUIVARIANCE[dtype]
    assert_equivariant(module, {"x": x[0], "y": y[0]}, generator=rng)


@parities
def test_control_weights_per_component_are_rejected(complete, rng):
    module = layer("equal", complete, rng)
    x, y = inputs(module, rng, 4)
    weight = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)[:, None]
    wrong = equivariance_error(
        lambda x, y: module(x * weight, y), {"x": x, "y": y}, module.signature, generator=rng
    )
    assert wrong.max > 1e-2


def test_control_a_bracket_of_the_wrong_parity_is_rejected(rng):
    module = layer("equal", True, rng)
    x, y = inputs(module, rng, 4)
    wrong = equivariance_error(
        lambda x, y: module(x, y).flip(-3), {"x": x, "y": y}, module.signature, generator=rng
    )
    assert wrong.max > 1e-2
    kinds = wrong.errors["output"]
    assert max(kinds["rotation"]) < 1e-12 < max(kinds["reflection"])


@pytest.mark.parametrize("case", ["mixed", "filter"])
@parities
def test_derivatives_of_first_and_second_order(case, complete, rng):
    degrees, rank, channels2 = CASES[case]
    channels2 = min(channels2, 2)
    module = GauntTensorProduct(*degrees, 2, complete, rank=rank, channels2=channels2).double()
    parameters = dict(module.named_parameters())
    x = [part.requires_grad_() for part in inputs(module, rng, 1)]

    def function(x, y, *weights):
        named = dict(zip(parameters, weights, strict=True))
        return functional_call(module, named, (x, y))

    assert gradcheck(function, (*x, *parameters.values()), fast_mode=True)
    assert gradgradcheck(function, (*x, *parameters.values()), fast_mode=True)


@pytest.mark.unchecked
@parities
def test_compiles_to_one_graph_for_any_batch(complete, rng):
    torch._dynamo.reset()
    module = layer("filter", complete, rng)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 8):
        x, y = inputs(module, rng, batch)
        x.requires_grad_()
        outputs = module(x, y), compiled(x, y)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(grad(out.square().sum(), x)[0] for out in outputs))


@pytest.mark.unchecked
@parities
def test_exports_for_any_batch(complete, rng):
    module = layer("mixed", complete, rng)
    shapes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    program = export(module, tuple(inputs(module, rng, 3)), dynamic_shapes=shapes)
    for batch in (2, 7):
        x, y = inputs(module, rng, batch)
        torch.testing.assert_close(program.module()(x, y), module(x, y))


@parities
def test_any_batch_empty_ones_too(complete, rng):
    module = layer("mixed", complete, rng)
    x, y = inputs(module, rng, 2, 3)
    z = module(x, y)
    assert z.shape[:2] == (2, 3)
    torch.testing.assert_close(module(x[0, 0], y[0, 0]), z[0, 0])
    torch.testing.assert_close(module(x, y[0]), module(x, y[:1].expand_as(y)))
    torch.testing.assert_close(module(x.movedim(0, 1), y.movedim(0, 1)), z.movedim(0, 1))
    empty = x[:0].requires_grad_()
    assert module(empty, y[:0]).shape == (0, *z.shape[1:])
    module(empty, y[:0]).sum().backward()
    assert empty.grad.shape == empty.shape


@parities
def test_a_row_with_nan_leaves_other_rows_alone(complete, rng):
    module = layer("equal", complete, rng)
    x, y = inputs(module, rng, 4)
    before = module(x, y)
    x[1, ..., 0, 0] = torch.nan
    after = module(x, y)
    assert after[1].isnan().any()
    kept = [0, 2, 3]
    assert torch.equal(after[kept], before[kept])


@pytest.mark.parametrize("case", ["mixed", "filter"])
@parities
def test_autocast(case, complete, rng):
    module = layer(case, complete, rng, torch.float32)
    x, y = inputs(module, rng, 20, dtype=torch.float32)
    exact = module(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        results = [module(x, y), module(x.bfloat16(), y.bfloat16()), module(x, y.bfloat16())]
    assert [z.dtype for z in results] == [torch.float32, torch.bfloat16, torch.float32]
    assert error(results[0], exact) <= VALUE[torch.float32]
    assert max(error(z, exact) for z in results[1:]) <= EQUIVARIANCE[torch.bfloat16]


@parities
def test_state_and_copies(complete, rng):
    module = layer("mixed", complete, rng)
    x, y = inputs(module, rng, 4)
    assert set(module.state_dict()) == {"weight1", "weight2", "weight_out"}
    other = layer("mixed", complete, rng)
    assert not torch.equal(other(x, y), module(x, y))
    other.load_state_dict(module.state_dict())
    rounded = copy.deepcopy(module).half().double()
    rounded.load_state_dict(module.state_dict())
    for twin in (other, rounded, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x, y), module(x, y))


def test_the_layer_prints_its_options():
    text = repr(GauntTensorProduct(2, 1, 3, 8, complete=True, rank=2))
    assert "lmax1=2, lmax2=1, lmax_out=3, channels=8, complete=True, weights=True, rank=2" in text


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lmax1": -1}, ValueError, "lmax1: expected an integer of at least 0, got -1"),
        ({"lmax2": 1.0}, TypeError, "lmax2: expected an integer, got 1.0"),
        ({"lmax_out": 5}, ValueError, r"lmax_out: got 5; expected at most lmax1 \+ lmax2 = 4"),
        ({"channels": 0}, ValueError, "channels: expected an integer of at least 1"),
        ({"channels2": 2}, ValueError, "channels2: got 2; expected 1 or the 4 of x"),
        ({"rank": 0}, ValueError, "rank: expected an integer of at least 1"),
        ({"rank": 2, "weights": False}, ValueError, "rank: got 2; expected 1 without weights"),
        ({"implementation": "fast"}, ValueError, "implementation is 'fast'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_named(options, error, message):
    given = {"lmax1": 2, "lmax2": 2, "lmax_out": 2, "channels": 4}
    with pytest.raises(error, match=message):
        GauntTensorProduct(**{**given, **options})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.zeros(5, 8, 3), torch.zeros(5, 9, 3), ValueError, r"x: expected shape \(..., 9, 3"),
        (torch.zeros(5, 9, 3), torch.zeros(5, 9, 4), ValueError, r"y: expected .* got \(5, 9, 4\)"),
        (torch.zeros(5, 3, 9), torch.zeros(5, 9, 3), ValueError, "x: .*transpose with .mT"),
        (torch.zeros(5, 9, 3).int(), torch.zeros(5, 9, 3), TypeError, "x: expected floating"),
        (torch.zeros(5, 9, 3), torch.zeros(5, 9, 3).double(), TypeError, "y: got torch.float64"),
        (torch.zeros(5, 9, 3), torch.zeros(4, 9, 3), ValueError, "x has batch axes"),
    ],
    ids=["coeffs", "channels", "transposed", "integers", "dtype", "batch"],
)
def test_wrong_features_are_named(x, y, error, message, rng):
    with pytest.raises(error, match=message):
        layer("equal", False, rng, torch.float32)(x, y)
