"""The operation: implementations against the definition, and derivatives."""

from math import prod

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

from eqlib.harmonics import (
    gaunt_coefficients,
    gauss_legendre_grid,
    poisson_coefficients,
    spherical_harmonics,
    spherical_harmonics_gradient,
    tangent_frames,
)
from eqlib.kernels.gaunt_convolution import (
    blocked,
    compiled,
    gaunt_convolution,
    gaunt_convolution_filter,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
SOURCE = torch.tensor([0, 1, 1, 3, 2, 1, 0])  # node 4 has no edge
TARGET = torch.tensor([2, 0, 2, 2, 0, 2, 3])  # unsorted, with a duplicate (1, 2)
NODES, EDGES = 5, 7
DEGREES = {"1, 2 -> 2": (1, 2, 2), "2, 1 -> 3": (2, 1, 3), "0, 1 -> 0": (0, 1, 0)}
SMALL = (1, 1, 1)
implementations = pytest.mark.parametrize("implementation", ["naive", "blocked", "compiled"])
paths = pytest.mark.parametrize("odd", [False, True], ids=["even", "odd"])
degrees = pytest.mark.parametrize("lmaxes", DEGREES.values(), ids=DEGREES.keys())


def table(implementation, lmaxes, odd, dtype=torch.float64):
    """Made for one degree more than needed: the operation takes the leading coefficients."""
    lmax = max(lmaxes) + 1
    if implementation == "naive":
        coefficients = poisson_coefficients if odd else gaunt_coefficients
        return coefficients(lmax, lmax, lmax).to(dtype)
    points, weights, _ = gauss_legendre_grid(sum(lmaxes))
    values = [spherical_harmonics(points, lmax)]
    if odd:
        slopes = tangent_frames(points) @ spherical_harmonics_gradient(points, lmax).mT
        values += slopes.unbind(-2)
    return (torch.stack(values) * weights[:, None] ** (1 / 3)).to(dtype)


def operands(lmaxes, rng, terms=1, copies=2, channels=2, edges=EDGES, nodes=NODES):
    """Features of both ends, harmonics and radial weights, in float64."""
    sizes = [(lmax + 1) ** 2 for lmax in lmaxes]
    shapes = [
        (nodes, copies, sizes[0], channels),
        (nodes, copies, sizes[2], channels),
        (edges, terms, sizes[1]),
        (edges, terms, lmaxes[1] + 1, channels),
    ]
    return [torch.randn(shape, dtype=torch.float64, generator=rng) for shape in shapes]


def convolve(x, harmonics, radial, implementation, lmaxes, odd, dtype=torch.float64):
    values = table(implementation, lmaxes, odd, dtype)
    graph = (SOURCE, TARGET, NODES, lmaxes[2])
    return gaunt_convolution(x, harmonics, radial, values, *graph, odd, implementation)


def differentiate(
    x,
    z,
    harmonics,
    radial,
    implementation,
    lmaxes,
    odd,
    wants=(True, True),
    dtype=torch.float64,
):
    values = table(implementation, lmaxes, odd, dtype)
    return gaunt_convolution_filter(
        x, z, harmonics, radial, values, SOURCE, TARGET, odd, *wants, implementation
    )


def close(found, expected, tolerance):
    scale = expected.abs().max().clamp(min=1e-30)
    return found.shape == expected.shape and bool(
        (found.double() - expected.double()).abs().max() <= tolerance * scale
    )


def by_loop(x, harmonics, radial, lmaxes, odd):
    """The sum over edges, one after the other, by the coefficients."""
    coefficients = poisson_coefficients if odd else gaunt_coefficients
    couplings = coefficients(*lmaxes)
    degree = torch.arange((lmaxes[1] + 1) ** 2).sqrt().long()
    z = x.new_zeros(NODES, x.shape[1], (lmaxes[2] + 1) ** 2, x.shape[3])
    for edge, (i, j) in enumerate(zip(SOURCE.tolist(), TARGET.tolist(), strict=True)):
        filters = (harmonics[edge, :, :, None] * radial[edge][:, degree]).sum(0)
        z[j] += torch.einsum("abo,kac,bc->koc", couplings, x[i], filters)
    return z


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("terms", [1, 2])
@implementations
@paths
@degrees
def test_matches_a_loop_over_edges(implementation, odd, lmaxes, terms, dtype, rng):
    x, _, harmonics, radial = (t.to(dtype) for t in operands(lmaxes, rng, terms))
    compute = torch.promote_types(dtype, torch.float32)
    z = convolve(x, harmonics, radial, implementation, lmaxes, odd, compute)
    expected = by_loop(x.double(), harmonics.double(), radial.double(), lmaxes, odd)
    assert z.dtype == dtype
    assert close(z, expected, TOLERANCE[dtype])
    assert (z[[1, 4]] == 0).all()


@paths
@degrees
def test_blocks_of_any_size_agree(odd, lmaxes, rng, monkeypatch):
    x, z, harmonics, radial = operands(lmaxes, rng, terms=2)
    expected = by_loop(x, harmonics, radial, lmaxes, odd)
    gradients = differentiate(x, z, harmonics, radial, "naive", lmaxes, odd)
    for size in (1, 2**10, 2**30):  # one edge at a time, a few, all
        monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": size, "cuda": size})
        assert close(convolve(x, harmonics, radial, "blocked", lmaxes, odd), expected, 1e-12)
        found = differentiate(x, z, harmonics, radial, "blocked", lmaxes, odd)
        assert all(close(a, b, 1e-12) for a, b in zip(found, gradients, strict=True))


@implementations
@paths
def test_derivatives_of_the_convolution(implementation, odd, rng):
    lmaxes = SMALL
    x, _, *edges = (t.requires_grad_() for t in operands(lmaxes, rng, copies=1, channels=1))

    def run(*tensors):
        return convolve(*tensors, implementation, lmaxes, odd)

    assert gradcheck(run, (x, *edges))
    assert gradgradcheck(run, (x, *edges), fast_mode=True)


@pytest.mark.parametrize("wants", [(True, True), (True, False), (False, True)], ids=str)
@implementations
@paths
def test_derivatives_of_the_derivative(implementation, odd, wants, rng):
    lmaxes = SMALL
    tensors = [t.requires_grad_() for t in operands(lmaxes, rng, terms=2, channels=2)]

    def run(*tensors):
        found = differentiate(*tensors, implementation, lmaxes, odd, wants)
        return [part for part, wanted in zip(found, wants, strict=True) if wanted]

    found = differentiate(*tensors, implementation, lmaxes, odd, wants)
    assert [part.numel() > 0 for part in found] == list(wants)
    assert gradcheck(run, tensors, fast_mode=True)
    assert gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.unchecked
@implementations
@paths
def test_operations_are_registered_right(implementation, odd, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, z, harmonics, radial = (t.requires_grad_() for t in operands(lmaxes, rng))
    values = table(implementation, lmaxes, odd)
    graph = (SOURCE, TARGET, NODES, lmaxes[2])
    opcheck(
        gaunt_convolution.registered, (x, harmonics, radial, values, *graph, odd, implementation)
    )
    for wants in ((True, True), (True, False), (False, True)):
        opcheck(
            gaunt_convolution_filter.registered,
            (x, z, harmonics, radial, values, SOURCE, TARGET, odd, *wants, implementation),
        )


@implementations
@paths
@pytest.mark.parametrize(
    ("nodes", "edges", "targets"), [(0, 0, 0), (3, 0, 3), (3, 0, 0), (3, 4, 1000)], ids=str
)
def test_few_edges_and_nodes(implementation, odd, nodes, edges, targets, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, z, harmonics, radial = operands(lmaxes, rng, edges=edges, nodes=nodes)
    source = torch.arange(edges) % max(nodes, 1)
    target = torch.full((edges,), max(targets - 1, 0))
    values = table(implementation, lmaxes, odd)
    graph = (source, target, targets, lmaxes[2])
    found = gaunt_convolution(x, harmonics, radial, values, *graph, odd, implementation)
    dense = table("naive", lmaxes, odd)
    expected = gaunt_convolution(x, harmonics, radial, dense, *graph, odd, "naive")
    assert found.shape == (targets, 2, 9, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (found[:-1] == 0).all()
    z = torch.randn(targets, *z.shape[1:], dtype=z.dtype, generator=rng)
    gradients = [
        gaunt_convolution_filter(
            x, z, harmonics, radial, kind, source, target, odd, True, True, name
        )
        for kind, name in ((values, implementation), (dense, "naive"))
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@implementations
@paths
def test_layout_in_memory_does_not_matter(implementation, odd, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, _, harmonics, radial = operands(lmaxes, rng)
    expected = convolve(x, harmonics, radial, implementation, lmaxes, odd)
    strided = [t.mT.contiguous().mT for t in (x, harmonics, radial)]
    assert close(convolve(*strided, implementation, lmaxes, odd), expected, 1e-14)
    alike = x[:1].expand_as(x)
    expected = convolve(alike.clone(), harmonics, radial, implementation, lmaxes, odd)
    assert close(convolve(alike, harmonics, radial, implementation, lmaxes, odd), expected, 1e-14)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest result."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, torch.Tensor) and not part._is_view():
                self.elements = max(self.elements, part.numel())
        return result


@pytest.mark.unchecked
def test_no_grid_of_all_edges_is_held(rng, monkeypatch):
    lmaxes, nodes, edges, channels = (2, 2, 2), 50, 20_000, 4
    x, z, harmonics, radial = operands(lmaxes, rng, 1, 1, channels, edges, nodes)
    source, target = torch.randint(nodes, (2, edges), generator=rng)
    values = table("blocked", lmaxes, False)
    inputs = (harmonics, radial, values, source, target)
    monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": 2**18, "cuda": 2**18})
    with LargestTensor() as record:
        blocked.convolve(x, *inputs, nodes, lmaxes[2], False)
        blocked.convolve_filter(x, z, *inputs, False, True, True)
    assert record.elements <= max(prod(radial.shape), prod(harmonics.shape))
    # control: the same check on one block of all edges
    monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": 2**40, "cuda": 2**40})
    with LargestTensor() as record:
        blocked.convolve(x, *inputs, nodes, lmaxes[2], False)
    assert record.elements >= edges * values.shape[1] * channels


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 32, 33, 70])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_compiled_form_at_the_ends_of_its_tiles(dtype, channels, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, z, harmonics, radial = (t.to(dtype) for t in operands(lmaxes, rng, channels=channels))
    found, expected = (
        (
            convolve(x, harmonics, radial, name, lmaxes, True, dtype),
            *differentiate(x, z, harmonics, radial, name, lmaxes, True, dtype=dtype),
        )
        for name in ("compiled", "naive")
    )
    assert all(close(a, b, TOLERANCE[dtype]) for a, b in zip(found, expected, strict=True))


@pytest.mark.unchecked
@pytest.mark.parametrize("threads", [1, 2])
@paths
def test_threads_agree_to_the_last_bit(odd, threads, rng):
    lmaxes, edges = DEGREES["1, 2 -> 2"], 3_000
    x, z, harmonics, radial = operands(lmaxes, rng, 1, 2, 32, edges, 40)
    source, target = torch.randint(40, (2, edges), generator=rng)
    values = table("compiled", lmaxes, odd)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            graph = (source, target, 40, lmaxes[2])
            results.append(
                [
                    gaunt_convolution(x, harmonics, radial, values, *graph, odd, "compiled"),
                    *gaunt_convolution_filter(
                        x, z, harmonics, radial, values, *graph[:2], odd, True, True, "compiled"
                    ),
                ]
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.unchecked
def test_without_a_compiler_auto_takes_the_blocked_form(rng, monkeypatch):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, _, harmonics, radial = operands(lmaxes, rng)
    monkeypatch.setattr(compiled, "whynot", lambda device: "no C compiler was found")
    with pytest.raises(ValueError, match="'compiled' cannot run here: no C compiler"):
        convolve(x, harmonics, radial, "compiled", lmaxes, False)
    found = convolve(x, harmonics, radial, "auto", lmaxes, False)
    assert torch.equal(found, convolve(x, harmonics, radial, "blocked", lmaxes, False))


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["naive", "blocked", "compiled", "auto"])
def test_what_does_not_fit_is_refused(name, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, _, harmonics, radial = operands(lmaxes, rng)
    values = table("naive" if name == "naive" else "blocked", lmaxes, False)
    good = [x, harmonics, radial, values, SOURCE, TARGET]
    wrong = {
        "radial: expected shape": (2, radial[:, :, :2]),
        "radial: expected shape .* beside": (2, radial[..., :1]),
        "harmonics, source, target": (5, TARGET[:3]),
        "table: expected one for 9": (3, values[..., :4]),
        "source: expected 0 <= source < 5, got 2 to 5": (4, SOURCE + 2),
        "target: expected 0 <= target < 5, got -1": (5, TARGET - 1),
    }
    for message, (position, value) in wrong.items():
        bad = [*good[:position], value, *good[position + 1 :]]
        with pytest.raises(ValueError, match=message):
            gaunt_convolution(*bad, NODES, lmaxes[2], False, name)


@pytest.mark.gpu
@pytest.mark.parametrize("implementation", ["naive", "blocked", "auto"])
@paths
def test_gpu_matches_the_loop(implementation, odd, rng):
    lmaxes = DEGREES["1, 2 -> 2"]
    x, z, harmonics, radial = operands(lmaxes, rng)
    values = table(implementation, lmaxes, odd).cuda()
    on_gpu = [t.cuda() for t in (x, harmonics, radial)]
    graph = (SOURCE.cuda(), TARGET.cuda())
    found = gaunt_convolution(*on_gpu, values, *graph, NODES, lmaxes[2], odd, implementation)
    assert close(found.cpu(), by_loop(x, harmonics, radial, lmaxes, odd), 1e-12)
    gradients = gaunt_convolution_filter(
        on_gpu[0], z.cuda(), *on_gpu[1:], values, *graph, odd, True, True, implementation
    )
    expected = differentiate(x, z, harmonics, radial, "naive", lmaxes, odd)
    assert all(close(a.cpu(), b, 1e-12) for a, b in zip(gradients, expected, strict=True))
