"""The layer of the convolution: symmetry, scale, compilers, and its options."""

import pytest
import torch
from torch.export import Dim, export

from eqlib.gaunt import GauntConvolution, gaunt_convolution
from eqlib.symmetry import assert_equivariant, equivariance_error
from tests.gaunt.convolution_problems import (
    EDGE_INDEX,
    NODES,
    methods,
    parities,
    problem,
    relative_error,
)
from tests.tolerances import EQUIVARIANCE


def layer(complete=False, method="auto", **options):
    torch.manual_seed(0)
    module = GauntConvolution(
        2, 3, 2.5, lmax_filter=3, lmax_out=1, complete=complete, method=method, **options
    )
    return module.double()


def layer_inputs(complete, rng, edge_channels=0):
    features, vectors, _ = problem((2, 3, 1), complete, rng, channels=3)
    inputs = {"features": features, "vectors": vectors, "edge_index": EDGE_INDEX}
    if edge_channels:
        shape = (EDGE_INDEX.shape[1], edge_channels)
        inputs["edge_features"] = torch.randn(shape, dtype=torch.float64, generator=rng)
    return inputs


@methods
@parities
def test_layer_is_equivariant(complete, method, rng):
    module = layer(complete, method, edge_channels=2)
    assert_equivariant(
        module, layer_inputs(complete, rng, 2), tolerance=EQUIVARIANCE[torch.float64]
    )


@pytest.mark.unchecked
@parities
def test_control_what_is_not_equivariant_is_found(complete, rng):
    module = layer(complete)

    def wrong_axis(features, vectors, edge_index):
        return module(features, vectors.roll(1, -1), edge_index)

    def wrong_nodes(features, vectors, edge_index):
        return module(features, vectors, edge_index.clamp(max=1))

    for wrong in (wrong_axis, wrong_nodes):
        inputs = layer_inputs(complete, rng)
        assert equivariance_error(wrong, inputs, module.signature).max > 1e-2


@parities
def test_only_complete_layers_see_chirality(complete, rng):
    """Three rounds from scalars: the invariants of a cloud and of its mirror image."""
    torch.manual_seed(0)
    rounds = [GauntConvolution(2, 3, 2.5, complete=complete).double() for _ in range(3)]
    _, vectors, _ = layer_inputs(complete, rng).values()
    ones = torch.zeros(NODES, *((2,) if complete else ()), 9, 3, dtype=torch.float64)
    (ones[:, 0] if complete else ones)[:, 0] = 1
    invariants = []
    for cloud in (vectors, vectors * torch.tensor([-1.0, 1, 1])):
        z = ones
        for module in rounds:
            z = module(z, cloud, EDGE_INDEX)
        invariants.append(z[..., 0, :])
    if complete:
        natural, pseudo = zip(*(z.unbind(1) for z in invariants), strict=True)
        assert relative_error(pseudo[1], -pseudo[0]) < 1e-12
        assert pseudo[0].abs().max() > 1e-5
    else:
        natural = invariants
    assert relative_error(*natural) < 1e-12


def test_layer_ends_smoothly_at_the_cutoff(rng):
    module = layer()
    inputs = layer_inputs(False, rng)
    unit = torch.nn.functional.normalize(inputs["vectors"], dim=-1)
    lengths = torch.tensor([2.5 - 1e-3, 2.5, 3.0], dtype=torch.float64)
    sizes = [module(**{**inputs, "vectors": unit * r}).abs().max() for r in lengths]
    assert 0 < sizes[0] < 1e-6
    assert sizes[1] == sizes[2] == 0
    vectors = (unit * 2.5).requires_grad_()
    z = module(**{**inputs, "vectors": vectors})
    (gradient,) = torch.autograd.grad(z.sum(), vectors)
    assert (gradient == 0).all()


@parities
def test_layer_keeps_the_scale(complete, rng):
    nodes, edges = 50, 2000
    module = GauntConvolution(2, 16, 1e3, lmax_out=3, complete=complete, neighbours=edges / nodes)
    features = torch.randn(nodes, *((2,) if complete else ()), 9, 16, generator=rng)
    vectors = torch.randn(edges, 3, generator=rng)
    edge_index = torch.randint(nodes, (2, edges), generator=rng)
    radial = torch.randn(edges, *((2,) if complete else ()), 3, 16, generator=rng)
    z = gaunt_convolution(
        features, vectors, radial * module.scale, edge_index, 3, complete=complete
    )
    assert 0.9 < z.square().mean() < 1.1


def test_layer_names_its_irreps():
    module = layer(complete=True)
    assert module.irreps_in == "3x0e+3x1o+3x2e+3x0o+3x1e+3x2o"
    assert module.irreps_out == "3x0e+3x1o+3x0o+3x1e"
    assert "lmax_filter=3" in repr(module)


@pytest.mark.unchecked
@pytest.mark.parametrize("method", ["grid", pytest.param("aligned", marks=pytest.mark.slow)])
def test_compiles_for_any_number_of_edges(method, rng):
    module = GauntConvolution(1, 2, 2.5, complete=True, method=method).double()
    features, vectors, _ = problem((1, 1, 1), True, rng)

    def twice(features, vectors, edge_index):
        return module(module(features, vectors, edge_index), vectors, edge_index)

    torch.compiler.reset()
    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (8, 5):
        some = vectors[:edges].clone().requires_grad_()
        args = (features, some, EDGE_INDEX[:, :edges])
        results = [f(*args) for f in (compiled, twice)]
        gradients = [torch.autograd.grad(z.square().sum(), some)[0] for z in results]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*gradients)


@pytest.mark.unchecked
@pytest.mark.parametrize("method", ["grid", pytest.param("aligned", marks=pytest.mark.slow)])
@parities
def test_exports_for_any_graph(complete, method, rng):
    module = layer(complete, method)
    features, vectors, index = layer_inputs(complete, rng).values()
    edges = Dim("edges")
    shapes = {"features": {0: Dim("nodes")}, "vectors": {0: edges}, "edge_index": {1: edges}}
    program = export(module, (features, vectors, index), dynamic_shapes=shapes)
    features = torch.cat([features, features])
    args = (features, vectors[:6], index[:, :6])
    torch.testing.assert_close(program.module()(*args), module(*args))


@methods
def test_autocast_changes_nothing_inside(method, rng):
    module = layer(False, method).float()
    inputs = {
        name: t.float() if t.is_floating_point() else t
        for name, t in layer_inputs(False, rng).items()
    }
    expected = module(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        z = module(**inputs)
        half = module(**{**inputs, "features": inputs["features"].bfloat16()})
    assert z.dtype == torch.float32
    assert half.dtype == torch.bfloat16
    assert relative_error(z, expected.double()) < 2e-2  # the radial weights are in bfloat16
    assert relative_error(half, expected.double()) < 2e-2


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lmax": -1}, "lmax: "),
        ({"channels": 0}, "channels: "),
        ({"cutoff": 0.0}, "cutoff: "),
        ({"lmax_out": -1}, "lmax_out: "),
        ({"neighbours": 0.0}, "neighbours: "),
        ({"basis": 1}, "count: "),
        ({"method": "fast"}, "method: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GauntConvolution(**{"lmax": 1, "channels": 2, "cutoff": 1.0, **options})


@pytest.mark.unchecked
def test_bad_inputs_of_the_layer_are_named(rng):
    inputs = layer_inputs(False, rng)
    with pytest.raises(ValueError, match="edge_features: expected None"):
        layer()(**inputs, edge_features=torch.zeros(8, 2))
    with pytest.raises(ValueError, match=r"edge_features: expected \(8, 2\), .* got None"):
        layer(edge_channels=2)(**inputs)
    with pytest.raises(TypeError, match=r"features: got torch\.float32"):
        layer()(**{**inputs, "features": inputs["features"].float()})
