"""What all layers on spherical tensors have in common: symmetry, derivatives, shapes, dtypes."""

import copy

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.export import Dim, export
from torch.func import functional_call, vmap

from eqlib.symmetry import O, SphericalTensor, assert_equivariant, equivariance_error
from tests.steerable.layers import CHANNELS, LAYERS, features, layer
from tests.tolerances import EQUIVARIANCE

names = pytest.mark.parametrize("name", list(LAYERS))
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


@names
@parities
@pytest.mark.parametrize("lmax", [0, 1, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_commutes_with_rotations_and_reflections(name, lmax, complete, dtype, rng):
    module = layer(name, rng, lmax, complete, dtype)
    x = features(rng, 2, 3, lmax=lmax, complete=complete, dtype=dtype)
    report = equivariance_error(module, {"features": x}, generator=rng)
    assert report.signature.group == O(3)
    assert report.max < EQUIVARIANCE[dtype]
    assert_equivariant(module, {"features": x[0, 0]}, generator=rng)


def mixes_orders(x):
    weight = torch.linspace(0.5, 1.5, x.shape[-2], dtype=x.dtype)
    return x * weight[:, None]


def activates_components(x):
    return torch.nn.functional.silu(x)


def norms_components(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def shifts_vectors(x):
    return x + 0.3


@pytest.mark.parametrize(
    "wrong",
    [mixes_orders, activates_components, norms_components, shifts_vectors],
    ids=lambda function: function.__name__,
)
@parities
def test_control_layers_that_treat_components_apart_are_rejected(wrong, complete, rng):
    kind = SphericalTensor(2, complete)
    x = features(rng, 5, complete=complete)
    signature = layer("gate", rng, 2, complete).signature
    assert signature.outputs == kind
    report = equivariance_error(lambda features: wrong(features), {"features": x}, signature)
    assert report.kinds["rotation"] > 1e-2


@pytest.mark.parametrize("name", ["linear", "gate", "norm"])
def test_control_layers_that_take_pseudoscalars_for_scalars_are_rejected(name, rng):
    module = layer(name, rng, 1, complete=True)

    def swapped(features):
        return module(features.flip(-3)).flip(-3)

    x = features(rng, 5, lmax=1, complete=True)
    report = equivariance_error(swapped, {"features": x}, module.signature, generator=rng)
    assert report.kinds["rotation"] < EQUIVARIANCE[torch.float64]
    assert report.kinds["reflection"] > 1e-2


@names
@parities
def test_derivatives(name, complete, rng):
    module = layer(name, rng, 1, complete)
    keys = list(dict(module.named_parameters()))
    tensors = [features(rng, 2, lmax=1, complete=complete), *module.parameters()]
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]

    def run(x, *parameters):
        return functional_call(module, dict(zip(keys, parameters, strict=True)), (x,))

    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["linear", "linear-up", "gate", "norm"])
@parities
def test_compiles_to_one_graph_for_any_batch(name, complete, rng):
    torch._dynamo.reset()
    module = layer(name, rng, 2, complete)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 8):
        x = features(rng, batch, complete=complete).requires_grad_()
        outputs = module(x), compiled(x)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(grad(out.square().sum(), x)[0] for out in outputs))


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["linear", "linear-down", "gate", "norm-per-degree"])
@parities
def test_exports_for_any_batch(name, complete, rng):
    module = layer(name, rng, 2, complete)
    example = features(rng, 3, complete=complete)
    program = export(module, (example,), dynamic_shapes=({0: Dim.DYNAMIC},))
    for batch in (2, 7):
        x = features(rng, batch, complete=complete)
        torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.unchecked
@names
@parities
def test_vmap_is_a_batch(name, complete, rng):
    module = layer(name, rng, 2, complete)
    x = features(rng, 4, 3, complete=complete)
    torch.testing.assert_close(vmap(module)(x), module(x))


@names
@parities
def test_any_batch_empty_ones_too(name, complete, rng):
    module = layer(name, rng, 2, complete)
    x = features(rng, 2, 3, complete=complete)
    expected = module(x)
    assert expected.is_contiguous()
    torch.testing.assert_close(module(x[0]), expected[0])
    torch.testing.assert_close(module(x[0, 0]), expected[0, 0])
    for batch in [(0,), (3, 0), (0, 2)]:
        none = x.new_zeros(*batch, *x.shape[2:]).requires_grad_()
        result = module(none)
        assert result.shape == (*batch, *expected.shape[2:])
        gradients = grad(result.sum(), [none, *module.parameters()])
        assert all((gradient == 0).all() for gradient in gradients)


@names
@parities
def test_noncontiguous_and_expanded_features(name, complete, rng):
    module = layer(name, rng, 2, complete)
    x = features(rng, 3, complete=complete)
    expected = module(x)
    strided = x.transpose(0, -1).contiguous().transpose(0, -1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(module(strided), expected)
    torch.testing.assert_close(module(x.expand(2, *x.shape)), expected.expand(2, *expected.shape))
    torch.testing.assert_close(module(x.repeat_interleave(2, 0)[::2]), expected)


RELATIVE = {torch.float64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 3e-2, torch.float16: 3e-3}


@names
@parities
@pytest.mark.parametrize("dtype", list(RELATIVE), ids=str)
def test_every_dtype_matches_float64(name, complete, dtype, rng):
    module = layer(name, rng, 2, complete).to(dtype)
    x = features(rng, 20, complete=complete, dtype=dtype)
    result = module(x)
    expected = copy.deepcopy(module).double()(x.double())
    assert result.dtype == dtype
    assert (result.double() - expected).abs().max() <= RELATIVE[dtype] * expected.abs().max()


@pytest.mark.unchecked
@names
@parities
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_autocast(name, complete, dtype, rng):
    module = layer(name, rng, 2, complete, torch.float32)
    x = features(rng, 20, complete=complete, dtype=dtype).requires_grad_()
    expected = module(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        result = module(x)
    linear = name.startswith("linear")
    assert result.dtype == (torch.bfloat16 if linear else dtype)
    assert (result - expected).abs().max() <= 3e-2 * expected.abs().max()
    gradients = grad(result.float().square().sum(), [x, *module.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert [g.dtype for g in gradients] == [dtype, *(p.dtype for p in module.parameters())]


@names
@parities
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_one_bad_item_leaves_the_others_untouched(name, complete, poison, rng):
    module = layer(name, rng, 2, complete)
    x = features(rng, 4, complete=complete)
    bad = x.clone()
    bad[2, ..., 1, 1] = poison
    results, gradients = [], []
    for y in (x, bad):
        y.requires_grad_()
        results.append(module(y))
        gradients.append(grad(results[-1].square().sum(), y)[0])
    for clean, dirty in (results, gradients):
        torch.testing.assert_close(dirty[[0, 1, 3]], clean[[0, 1, 3]], rtol=0, atol=0)
    assert not results[1][2].isfinite().all()


@names
@parities
def test_state_survives_a_round_trip(name, complete, rng):
    module = layer(name, rng, 2, complete)
    other = LAYERS[name](2, complete).double()
    other.load_state_dict(module.state_dict())
    x = features(rng, 3, complete=complete)
    assert set(module.state_dict()) == set(dict(module.named_parameters()))
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@names
@parities
def test_layers_print_how_they_were_made(name, complete, rng):
    text = repr(layer(name, rng, 2, complete))
    assert "lmax=2" in text
    assert f"complete={complete}" in text


@pytest.mark.unchecked
@names
@pytest.mark.parametrize(
    ("shape", "complete", "message"),
    [
        (
            (5, 8, CHANNELS),
            False,
            r"features: expected shape \(..., 9, 4\), the .* 0 to 2, th",
        ),
        ((5, 9, 3), False, r"got \(5, 9, 3\)$"),
        ((5, CHANNELS, 9), False, r"channels come last: transpose with .mT"),
        ((9,), False, r"got \(9,\)$"),
        ((), False, r"got \(\)$"),
        ((5, 2, 8, CHANNELS), True, r"expected shape \(..., 2, 9, 4\), .* of both parities"),
        ((5, 9, CHANNELS), True, r"with complete=True, index 0 of axis -3 is of natural parity"),
        ((5, 2, CHANNELS, 9), True, r"transpose with .mT"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(name, shape, complete, message):
    with pytest.raises(ValueError, match=message):
        LAYERS[name](2, complete)(torch.zeros(shape))


@pytest.mark.unchecked
@names
def test_other_dtypes_are_refused(name):
    module = LAYERS[name](2, False)
    with pytest.raises(TypeError, match=r"features: expected floating-point .*torch.int64; conv"):
        module(torch.zeros(5, 9, CHANNELS, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"features: got torch.float64, but the weights .*float32"):
        module(torch.zeros(5, 9, CHANNELS, dtype=torch.float64))


@pytest.mark.unchecked
@names
def test_other_devices_are_refused(name):
    with pytest.raises(ValueError, match="features: on meta, but the layer is on cpu; move one"):
        LAYERS[name](2, False)(torch.zeros(5, 9, CHANNELS, device="meta"))


@pytest.mark.unchecked
@names
def test_layers_trace_on_the_meta_device(name):
    module = LAYERS[name](2, False).to("meta")
    x = torch.zeros(5, 9, CHANNELS, device="meta")
    assert module(x).device.type == "meta"
    with pytest.raises(TypeError, match=r"got torch.float64"):
        module(x.double())


@pytest.mark.unchecked
@names
@pytest.mark.parametrize(
    ("lmax", "error", "message"),
    [
        (-1, ValueError, "expected an integer of at least 0, got -1"),
        (1.5, TypeError, "expected an integer, got 1.5"),
        (True, TypeError, "expected an integer, got True"),
    ],
)
def test_degrees_that_are_none_are_refused(name, lmax, error, message):
    with pytest.raises(error, match=f"lmax(_out)?: {message}"):
        LAYERS[name](lmax, False)


@pytest.mark.gpu
@names
@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cuda_matches_the_cpu(name, complete, dtype, rng):
    module = layer(name, rng, 3, complete, dtype)
    x = features(rng, 100, lmax=3, complete=complete, dtype=dtype)
    expected = module(x)
    result = module.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(result, expected)
    assert_equivariant(module, {"features": x.cuda()}, generator=rng)
