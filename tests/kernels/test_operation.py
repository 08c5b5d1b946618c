"""Every operation in forward mode and under the transforms of torch.func, and the class itself."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.kernels.channelwise_matmul import channelwise_matmul
from eqlib.kernels.convnext_block import convnext_block
from eqlib.kernels.gaunt_convolution import gaunt_convolution
from eqlib.kernels.gaunt_many_body import gaunt_many_body
from eqlib.kernels.gaunt_many_body.terms import encode
from eqlib.kernels.operation import is_transforming, operation
from eqlib.kernels.position_orientation_conv import position_orientation_conv
from tests.kernels.convnext_block.test_op import make as make_block
from tests.kernels.gaunt_convolution.test_op import operands as edges_of
from tests.kernels.gaunt_convolution.test_op import table
from tests.kernels.gaunt_many_body.test_op import POLYNOMIALS, fields, grid
from tests.kernels.pair_linear.test_op import TINY as PAIRS
from tests.kernels.pair_linear.test_op import functions
from tests.kernels.pair_linear.test_op import make as make_pairs
from tests.kernels.position_orientation_conv.test_op import TINY as EDGES
from tests.kernels.position_orientation_conv.test_op import make as make_edges

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of torch

SOURCE, TARGET = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 2])


def _matmul(rng):
    shapes = [(2, 3, 2), (2, 1, 2)]
    tensors = [torch.randn(shape, dtype=torch.float64, generator=rng) for shape in shapes]
    return lambda a, b: channelwise_matmul(a, b, "auto"), tensors


def _block(rng):
    return lambda *tensors: convnext_block(*tensors, 1e-5, "auto"), make_block((2, 3, 2), rng)


def _many_body(rng):
    tables, weights = grid(6)
    terms = encode(POLYNOMIALS["bracket"])

    def call(*x):
        return tuple(gaunt_many_body([*x], tables, weights, terms, [4, 1], "auto"))

    return call, fields(rng, nodes=2, channels=1)


def _gaunt(odd, implementation):
    def case(rng):
        x, _, harmonics, radial = edges_of((1, 1, 1), rng, copies=1, channels=1, edges=4, nodes=3)
        values = table(implementation, (1, 1, 1), odd)
        rest = (values, SOURCE, TARGET, 3, 1, odd, implementation)
        return lambda *tensors: gaunt_convolution(*tensors, *rest), [x, harmonics, radial]

    return case


def _pairs(name, which):
    def case(rng):
        return functions(make_pairs(PAIRS[name], rng), "auto")[which]

    return case


def _edges(name):
    def case(rng):
        arguments = make_edges(EDGES[name], rng)
        rest = (*arguments[9:], "auto")
        return lambda *tensors: position_orientation_conv(*tensors, *rest), arguments[:9]

    return case


CASES = {
    "channelwise_matmul": _matmul,
    "convnext_block": _block,
    "gaunt_many_body": _many_body,
    "gaunt_convolution, even": _gaunt(False, "blocked"),
    "gaunt_convolution, odd": _gaunt(True, "compiled"),
    "gaunt_convolution, by coefficients": _gaunt(True, "naive"),
    "pair_reduce": _pairs("shared, rooted", "reduce"),
    "pair_linear": _pairs("shared, rooted", "linear"),
    "pair_linear, own": _pairs("own", "linear"),
    "pair_weight_gradient": _pairs("shared", "weights"),
    "position_orientation_conv": _edges("perpendicular"),
    "position_orientation_conv, pairs": _edges("pairs"),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def leaves(tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def energy(call):
    """A scalar of the results, for derivatives of second order."""

    def function(*tensors):
        results = call(*tensors)
        results = results if isinstance(results, tuple) else (results,)
        return sum(result.sin().sum() for result in results)

    return function


@cases
def test_forward_mode(case, rng):
    call, tensors = case(rng)
    assert gradcheck(
        call,
        leaves(tensors),
        check_forward_ad=True,
        check_batched_forward_grad=True,
    )


@cases
def test_forward_over_reverse(case, rng):
    call, tensors = case(rng)
    assert gradgradcheck(call, leaves(tensors), check_fwd_over_rev=True)


@cases
def test_transforms(case, rng):
    call, tensors = case(rng)
    function, places = energy(call), tuple(range(len(tensors)))
    given = leaves(tensors)
    expected = torch.autograd.grad(function(*given), given, create_graph=True)
    found = torch.func.grad(function, places)(*tensors)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    by_first = torch.autograd.grad(
        expected[0].sum(), given, allow_unused=True, materialize_grads=True
    )
    hessian = torch.func.hessian(function, places)(*tensors)
    for column, b in zip(hessian[0], by_first, strict=True):
        a = column.sum(tuple(range(tensors[0].ndim)))
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@cases
def test_vmap(case, rng):
    call, (first, *others) = case(rng)
    many = torch.stack([first, first.flip(0), 2 * first])
    found = torch.vmap(call, (0, *[None] * len(others)))(many, *others)
    expected = [call(one, *others) for one in many]
    if not isinstance(found, tuple):
        found, expected = (found,), [(one,) for one in expected]
    for a, b in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(a, torch.stack(b), rtol=1e-10, atol=1e-12)


@operation("eqlib_test::doubled")
def doubled(x: torch.Tensor, implementation: str) -> torch.Tensor:
    """Twice x."""
    return x + x if implementation == "naive" else torch.from_numpy(2 * x.numpy())


def test_without_a_definition_forward_mode_is_lost():
    """The control: what torch does to an operation of its library."""
    x, tangent = torch.ones(3), torch.arange(3.0)
    _, moved = torch.func.jvp(lambda x: doubled(x, "other"), (x,), (tangent,))
    assert torch.equal(moved, 2 * tangent)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        lost = torch.autograd.forward_ad.unpack_dual(doubled.registered(dual, "naive"))
        kept = torch.autograd.forward_ad.unpack_dual(doubled(dual, "naive"))
    assert lost.tangent is None
    assert torch.equal(kept.tangent, 2 * tangent)


def test_names_of_arguments_and_documentation():
    assert torch.equal(doubled(implementation="other", x=torch.ones(2)), torch.full((2,), 2.0))
    assert doubled.__doc__ == "Twice x."


def test_when_a_transform_is_active():
    assert not is_transforming()
    inside = []
    torch.vmap(lambda x: inside.append(is_transforming()) or x)(torch.ones(2))
    with torch.autograd.forward_ad.dual_level():
        inside.append(is_transforming())
    assert inside == [True, True]
    assert not is_transforming()
