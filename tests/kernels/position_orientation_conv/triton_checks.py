"""Checks of the Triton kernels, which test_triton.py runs in a process of their own.

With TRITON_INTERPRET=1 the kernels run on the CPU, in numpy; without, on a GPU. The variable counts
when the kernels are first imported, so it cannot be set in a process that runs other tests too.
"""

import os
from dataclasses import replace
from math import inf

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.kernels.position_orientation_conv import (
    naive,
    position_orientation_conv,
    triton_launch,
    whynot,
)
from eqlib.kernels.position_orientation_conv import triton_configurations as configurations
from tests.kernels.position_orientation_conv.cases import (
    CASES,
    NAMES,
    TOLERANCE,
    Case,
    close,
    make,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
ALL = [True] * len(NAMES)
GUARD = 4099
"""NaN on both sides of every tensor: more than any tile, and no multiple of one."""

FEW = ["R3xS2 pairs turned", "SE3 turned", "odd sizes", "given orientations"]
SHAPES = {
    "more orientations than totals": Case(orientations=50, edges=9, scalars=0),
    "many orientations, pairs": Case(orientations=66, edges=5, pairs=True),
    "20 orientations": Case(orientations=20, edges=31, channels=20),
    "all edges at one node": Case(sources=40, targets=2, edges=90, orientations=2),
    "hidden and basis of several tiles": Case(hidden=70, basis=130, channels=3, edges=12),
    "channels of several tiles": Case(hidden=5, basis=4, channels=140, edges=12),
    "32 inputs": Case("axes", m=3, scalars=13, edges=11),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
few = pytest.mark.parametrize("case", [CASES[name] for name in FEW], ids=FEW)
shapes = pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES.keys())


class Bands:
    """Copies of tensors between two bands of NaN."""

    def __init__(self):
        self.bands = []

    def __call__(self, given):
        if given.dtype == torch.int64:
            return given.to(DEVICE)
        size = given.numel()
        whole = torch.full((size + 2 * GUARD,), torch.nan, dtype=given.dtype, device=DEVICE)
        inside = whole[GUARD : GUARD + size].view(given.shape)
        inside.copy_(given)
        self.bands += [whole[:GUARD], whole[GUARD + size :]]
        return inside

    def untouched(self):
        return all(bool(band.isnan().all()) for band in self.bands)


def convolve(arguments):
    """Convolve between bands."""
    bands = Bands()
    guarded = arguments._make(bands(t) if isinstance(t, torch.Tensor) else t for t in arguments)
    shape = (len(arguments.starts) - 1, *arguments.x.shape[1:])
    y = bands(torch.full(shape, torch.nan, dtype=arguments.x.dtype))
    triton_launch.convolve_into(y, guarded, guarded.x, reverse=False)
    assert bands.untouched()
    return y.cpu()


def differentiate(grad_y, arguments, monkeypatch):
    """Differentiate between bands."""
    bands = Bands()
    guarded = arguments._make(bands(t) if isinstance(t, torch.Tensor) else t for t in arguments)
    with monkeypatch.context() as patch:
        allocate, empty_like = triton_launch.empty_parts, torch.empty_like
        patch.setattr(
            triton_launch,
            "empty_parts",
            lambda *given: {name: bands(part) for name, part in allocate(*given).items()},
        )
        patch.setattr(torch, "empty_like", lambda t: bands(empty_like(t).fill_(torch.nan)))
        found = triton_launch.differentiate(bands(grad_y), guarded, ALL)
    assert bands.untouched()
    return [part.cpu() for part in found]


def in_double(arguments):
    """The same numbers in float64, which gradients are wanted of."""
    double = [t.double().requires_grad_() for t in arguments[: len(NAMES)]]
    return arguments._replace(**dict(zip(NAMES, double, strict=True)))


def expected(grad_y, arguments):
    """The result and all gradients, by torch in float64."""
    double = in_double(arguments)
    y = naive.convolve(double)
    leaves = double[: len(NAMES)]
    wanted = [leaf for leaf in leaves if leaf.numel()]
    found = iter(torch.autograd.grad(y, wanted, grad_y.double(), materialize_grads=True))
    return y.detach(), [next(found) if leaf.numel() else torch.zeros_like(leaf) for leaf in leaves]


def check(case, dtype, rng, monkeypatch):
    arguments = make(case, rng, torch.promote_types(dtype, torch.float32))
    arguments = arguments._replace(x=arguments.x.to(dtype))
    shape = (case.targets, case.orientations, case.channels)
    grad_y = torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)
    y, gradients = expected(grad_y, arguments)
    result = convolve(arguments)
    assert result.dtype == dtype
    assert close(result, y, TOLERANCE[dtype])
    found = differentiate(grad_y, arguments, monkeypatch)
    for name, part, whole, like in zip(NAMES, found, gradients, arguments, strict=False):
        assert part.dtype == like.dtype, name
        assert close(part, whole, TOLERANCE[dtype]), name


class TestAll:
    """Takes minutes in the interpreter, which spends the same time on a tile of any size."""

    @cases
    def test_cases(self, case, rng, monkeypatch):
        check(case, torch.float64, rng, monkeypatch)

    @shapes
    def test_shapes(self, case, rng, monkeypatch):
        check(case, torch.float64, rng, monkeypatch)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    @few
    def test_dtypes(self, case, dtype, rng, monkeypatch):
        check(case, dtype, rng, monkeypatch)


class TestSome:
    @few
    def test_cases(self, case, rng, monkeypatch):
        check(case, torch.float32, rng, monkeypatch)

    @pytest.mark.parametrize("name", list(SHAPES)[:2])
    def test_shapes(self, name, rng, monkeypatch):
        check(SHAPES[name], torch.float32, rng, monkeypatch)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
    def test_dtypes(self, dtype, rng, monkeypatch):
        check(replace(CASES["R3xS2 pairs"], edges=9), dtype, rng, monkeypatch)

    def test_rows_in_blocks(self, rng, monkeypatch):
        """Each block adds to the sums of those before, and the last one is not full."""
        monkeypatch.setattr(triton_launch, "STAGED_BYTES", 1)
        monkeypatch.setattr(triton_launch, "PROGRAMS", 1)
        monkeypatch.setattr(triton_launch, "ROWS_OF_GEOMETRY", 9)
        case = replace(CASES["R3xS2 pairs turned"], edges=35)
        check(case, torch.float32, rng, monkeypatch)


def test_float32_is_not_rounded_to_tf32(rng, monkeypatch):
    arguments = make(replace(CASES["wide"], edges=20), rng, torch.float32)
    exact = naive.convolve(in_double(arguments)).detach()
    assert close(convolve(arguments), exact, TOLERANCE[torch.float32])
    # control: one product of TF32 instead of three shows
    constants = configurations.constants

    def rounded(*how):
        found, options = constants(*how)
        return found | {"PRECISION": "tf32"}, options

    monkeypatch.setattr(configurations, "constants", rounded)
    assert not close(convolve(arguments), exact, 3e-5)


def test_some_gradients(rng):
    arguments = make(replace(CASES["R3xS2 pairs"], edges=5), rng)
    guarded = arguments._make(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in arguments)
    grad_y = torch.randn(7, 4, 5, dtype=torch.float64, generator=rng)
    _, gradients = expected(grad_y, arguments)
    for wanted in ({0}, {1}, {3}, {5}, {7}, {8}, {2, 8}):
        wants = [index in wanted for index in range(len(NAMES))]
        found = triton_launch.differentiate(grad_y.to(DEVICE), guarded, wants)
        for index, part in enumerate(found):
            if index in wanted:
                assert close(part.cpu(), gradients[index], 1e-12), NAMES[index]
            else:
                assert part.numel() == 0


def test_every_program_writes_its_own_part(rng, monkeypatch):
    if not INTERPRETED:
        pytest.skip("programs run in no order on a GPU")
    from triton.runtime import interpreter

    case = replace(CASES["odd sizes"], channels=140, edges=9, sources=3, targets=3)
    arguments = make(case, rng, torch.float32)
    grad_y = torch.randn(3, 6, 140, generator=rng)
    first = [convolve(arguments), *differentiate(grad_y, arguments, monkeypatch)]
    builder, order = interpreter.interpreter_builder, []

    def backwards(x, y, z, forwards=builder.set_grid_idx):
        order.append((x, y, z))
        forwards(*(n - 1 - i for n, i in zip(builder.grid_dim, (x, y, z), strict=True)))

    monkeypatch.setattr(builder, "set_grid_idx", backwards)
    second = [convolve(arguments), *differentiate(grad_y, arguments, monkeypatch)]
    assert len(set(order)) > 2
    assert all(map(torch.equal, first, second))


def test_gradients_are_the_same_again(rng):
    arguments = make(CASES["wide"], rng, torch.float32, DEVICE)
    grad_y = torch.randn(7, 2, 64, generator=rng).to(DEVICE)
    runs = [triton_launch.differentiate(grad_y, arguments, ALL) for _ in range(2)]
    assert all(map(torch.equal, *runs))


def test_memory_does_not_grow_with_the_network(rng):
    case = Case(orientations=20, edges=400, hidden=256, basis=512, channels=128)
    bytes_of = []
    for more in (2, 4):
        arguments = make(replace(case, edges=more * case.edges), rng, torch.float32)
        wants = [True] + 3 * [False] + 5 * [True]
        parts = triton_launch.empty_parts(arguments, wants)
        bytes_of.append(sum(part.nbytes for part in parts.values()))
        staged = parts["staged"].nbytes + parts["by_staged"].nbytes
        assert staged <= triton_launch.STAGED_BYTES
    assert bytes_of[0] == bytes_of[1]


def test_a_row_that_is_not_finite_stays_at_its_target(rng):
    arguments = make(Case(targets=5, sources=5, orientations=17, edges=12), rng)
    expected = convolve(arguments)
    # numpy warns of infinity minus infinity
    arguments.x[2] = torch.nan
    found = convolve(arguments)
    reached = torch.zeros(len(found), dtype=torch.bool)
    reached[arguments.target[arguments.source == 2]] = True
    assert torch.equal(found[~reached], expected[~reached])
    assert found[reached].isnan().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_nan_is_not_rounded_away(dtype, rng):
    arguments = make(Case(edges=5), rng, torch.float32)
    # all bits set but the sign, as in the NaN that a GPU makes
    arguments.w3[0, 0] = torch.tensor(2**31 - 1, dtype=torch.int32).view(torch.float32)
    y = convolve(arguments._replace(x=arguments.x.to(dtype)))
    assert y[arguments.target, :, 0].isnan().all()


def operation(arguments):
    """The operation as a function of what it can be differentiated by."""

    def run(*leaves):
        return position_orientation_conv(*leaves, *arguments[len(leaves) :], "triton")

    return run


class TestAllOperation:
    @pytest.mark.parametrize("name", ["R3xS2 pairs turned", "R2xS1"])
    def test_gradcheck_and_gradgradcheck(self, name, rng):
        case = replace(CASES[name], sources=3, targets=3, edges=3, orientations=2, degree=2)
        case = replace(case, channels=1, hidden=2, basis=2)
        arguments = make(case, rng, device=DEVICE)
        leaves = [t.requires_grad_() for t in arguments[: len(NAMES)]]
        assert gradcheck(operation(arguments), leaves, fast_mode=True)
        assert gradgradcheck(operation(arguments), leaves, fast_mode=True)


class TestOperation:
    @pytest.mark.unchecked
    def test_opcheck(self, rng):
        case = replace(CASES["R3xS2"], sources=3, targets=3, edges=5)
        arguments = make(case, rng, device=DEVICE)
        leaves = [t.requires_grad_() for t in arguments[: len(NAMES)]]
        given = (*leaves, *arguments[len(NAMES) :], "triton")
        torch.library.opcheck(position_orientation_conv.registered, given)

    @pytest.mark.unchecked
    def test_compile(self, rng):
        arguments = make(CASES["R3xS2"], rng, torch.float32, DEVICE)
        function = operation(arguments)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        leaves = arguments[: len(NAMES)]
        assert torch.equal(compiled(*leaves), function(*leaves))

    def test_strides(self, rng):
        arguments = make(CASES["R3xS2"], rng, device=DEVICE)
        x = arguments.x.transpose(0, 1).contiguous().transpose(0, 1)
        leaves = (x, *arguments[1 : len(NAMES)])
        function = operation(arguments)
        assert torch.equal(function(*leaves), function(*arguments[: len(NAMES)]))

    def test_no_edges(self, rng):
        arguments = make(CASES["R3xS2"], rng, device=DEVICE)
        y = position_orientation_conv(
            arguments.x,
            *(t[:0] if i in (1, 3) else t for i, t in enumerate(arguments[:9]) if i),
            *(arguments[9][:0], arguments[10][:0], 0 * arguments[11], arguments[12][:0]),
            0 * arguments[13],
            *arguments[14:],
            "triton",
        )
        assert torch.equal(y, torch.zeros_like(y))


@pytest.mark.parametrize("offset", [0.0, 1e6], ids=["coincident", "far"])
def test_degenerate_offsets(offset, rng, monkeypatch):
    for name, radius in (("R3xS2 pairs", 2.5), ("SE3", inf), ("R3", 2.5)):
        case = replace(CASES[name], radius=radius, degree=2, edges=7)
        arguments = make(case, rng, torch.float32)
        arguments = arguments._replace(offsets=torch.full_like(arguments.offsets, offset))
        y = convolve(arguments)
        gradients = differentiate(torch.ones_like(y), arguments, monkeypatch)
        assert all(part.isfinite().all() for part in (y, *gradients))


def test_offsets_beyond_32_bits(rng):
    """Only the last rows of the features are touched: the others take no memory."""
    arguments = make(CASES["given orientations"], rng, torch.float32)
    channels = arguments.x.shape[2]
    nodes = 2**31 // channels + 100
    far = torch.empty(nodes, 1, channels, dtype=torch.float16, device=DEVICE)
    far[-7:] = arguments.x
    near = convolve(arguments._replace(x=arguments.x.half()))
    shifted = arguments._replace(x=far, source=arguments.source + nodes - 7)
    given = shifted._make(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in shifted)
    y = torch.empty_like(near, device=DEVICE)
    triton_launch.convolve_into(y, given, given.x, reverse=False)
    assert torch.equal(y.cpu(), near)


def test_what_the_kernels_do_not_hold(rng):
    arguments = make(SHAPES["32 inputs"], rng, torch.float32, DEVICE)
    assert whynot("triton", arguments) == ""
    more = make(replace(SHAPES["32 inputs"], scalars=14), rng, torch.float32, DEVICE)
    assert "hold 32 monomials and scalars in float32, not 33" in whynot("triton", more)
    double = make(replace(SHAPES["32 inputs"], scalars=0), rng, device=DEVICE)
    assert "16 monomials and scalars in float64, not 19" in whynot("triton", double)
    empty = arguments._replace(b1=arguments.b1[:0], w1=arguments.w1[:0])
    assert "layers that are not empty" in whynot("triton", empty)
