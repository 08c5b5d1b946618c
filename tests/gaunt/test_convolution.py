"""The convolution against sums of functions over edges, and at its edges."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.gaunt import gaunt_convolution
from tests.gaunt.convolution_problems import (
    DEGREES,
    EDGE_INDEX,
    NODES,
    VALUE,
    by_functions,
    harmonics,
    methods,
    parities,
    problem,
    relative_error,
)


@pytest.mark.parametrize("lmaxes", DEGREES.values(), ids=DEGREES.keys())
@methods
@parities
def test_matches_products_of_functions(complete, method, lmaxes, rng):
    for dtype in (torch.float64, torch.float32):
        x, vectors, radial = problem(lmaxes, complete, rng, dtype)
        z = gaunt_convolution(
            x, vectors, radial, EDGE_INDEX, lmaxes[2], method=method, complete=complete
        )
        assert z.dtype == dtype
        assert (
            relative_error(z, by_functions(x, vectors, radial, lmaxes[2], complete)) < VALUE[dtype]
        )
        assert (z[[1, 4]] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@methods
@parities
def test_half_precision_is_computed_in_float32(complete, method, dtype, rng):
    x, vectors, radial = problem((2, 2, 2), complete, rng, dtype)
    vectors = vectors.float()
    z = gaunt_convolution(x, vectors, radial, EDGE_INDEX, 2, method=method, complete=complete)
    assert z.dtype == dtype
    expected = by_functions(x, vectors, radial, 2, complete)
    assert relative_error(z, expected) < torch.finfo(dtype).eps


@pytest.mark.parametrize("offset", [1e-3, 1e-8, 1e-12, 0.0])
@pytest.mark.parametrize("pole", [1.0, -1.0])
@methods
def test_poles_are_not_special(method, pole, offset, rng):
    x, vectors, radial = problem((2, 2, 2), True, rng)
    vectors[:, 1] = pole
    vectors[:, ::2] *= offset
    vectors.requires_grad_()

    def run(vectors, method=method):
        return gaunt_convolution(x, vectors, radial, EDGE_INDEX, 2, method=method, complete=True)

    expected = by_functions(x, vectors.detach(), radial, 2, True)
    assert relative_error(run(vectors), expected) < 1e-12
    probe = torch.randn(expected.shape, dtype=expected.dtype, generator=rng)
    gradients = [
        torch.autograd.grad((run(vectors, name) * probe).sum(), vectors)[0]
        for name in (method, "naive")
    ]
    assert relative_error(*gradients) < 1e-12
    assert gradcheck(run, vectors, fast_mode=True)


@methods
@parities
def test_an_edge_without_length_has_a_filter_of_degree_0(complete, method, rng):
    x, vectors, radial = problem((2, 2, 2), complete, rng)
    vectors[[0, 7]] = 0
    vectors.requires_grad_()
    z = gaunt_convolution(x, vectors, radial, EDGE_INDEX, 2, method=method, complete=complete)
    assert relative_error(z, by_functions(x, vectors.detach(), radial, 2, complete)) < 1e-12
    (gradient,) = torch.autograd.grad(z.square().sum(), vectors)
    assert gradient.isfinite().all()
    assert (gradient[[0, 7]] == 0).all()
    assert (gradient[1:7] != 0).any(-1).all()


@methods
@parities
def test_derivatives(complete, method, rng):
    inputs = [t.requires_grad_() for t in problem((1, 2, 1), complete, rng, channels=1)]

    def run(*inputs):
        return gaunt_convolution(*inputs, EDGE_INDEX, 1, method=method, complete=complete)

    assert gradcheck(run, inputs, fast_mode=True)
    assert gradgradcheck(run, inputs, fast_mode=True)


def test_third_derivatives(rng):
    x, vectors, radial = problem((1, 2, 1), True, rng, channels=1)

    def force(x, vectors, radial):
        z = gaunt_convolution(x, vectors, radial, EDGE_INDEX, 1, complete=True)
        return torch.autograd.grad(z.square().sum(), vectors, create_graph=True)

    assert gradgradcheck(force, (x, vectors.requires_grad_(), radial), fast_mode=True)


def test_every_path_is_reached(rng):
    """One degree of each operand at a time: the coefficients are those of e3nn up to a constant."""
    from e3nn import o3

    lmax, found = 3, 0
    edge_index = torch.zeros(2, 1, dtype=torch.int64)
    vector = torch.randn(1, 3, dtype=torch.float64, generator=rng)
    filters = harmonics(vector[0], lmax).split([1, 3, 5, 7])
    for l1 in range(lmax + 1):
        x = torch.zeros(1, 2, (lmax + 1) ** 2, 1, dtype=torch.float64)
        part = x[0, 0, l1**2 : (l1 + 1) ** 2, 0].normal_(generator=rng)
        for l2 in range(lmax + 1):
            radial = torch.zeros(1, 2, lmax + 1, 1, dtype=torch.float64)
            radial[:, :, l2] = 1
            z = gaunt_convolution(x, vector, radial, edge_index, lmax, complete=True)
            for l3 in range(abs(l1 - l2), min(lmax, l1 + l2) + 1):
                w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                expected = torch.einsum("abc,a,b->c", w3j, part, filters[l2])
                result = z[0, (l1 + l2 + l3) % 2, l3**2 : (l3 + 1) ** 2, 0]
                constant = (result @ expected) / (expected @ expected)
                assert constant > 0.1
                torch.testing.assert_close(result, constant * expected, rtol=0, atol=1e-12)
                found += 1
    assert found == 34


@methods
@parities
def test_edges_in_any_order_and_repeated(complete, method, rng):
    x, vectors, radial = problem((2, 1, 2), complete, rng)
    order = torch.randperm(EDGE_INDEX.shape[1], generator=rng)

    def run(rows, index=None, nodes=None):
        index = EDGE_INDEX[:, rows] if index is None else index
        inputs = (x, vectors[rows], radial[rows], index, 2, nodes)
        return gaunt_convolution(*inputs, method=method, complete=complete)

    expected = run(slice(None))
    assert relative_error(run(order), expected) < 1e-14
    assert relative_error(run(torch.cat([order, order])), 2 * expected) < 1e-14
    one = [run(slice(edge, edge + 1)) for edge in range(len(order))]
    assert relative_error(sum(one), expected) < 1e-14
    # fewer and more targets than sources
    index = EDGE_INDEX.clone()
    index[1] = torch.tensor([0, 1, 0, 0, 1, 0, 2, 2])
    few, many = run(slice(None), index, 3), run(slice(None), index, 100)
    assert relative_error(many[:3], few) < 1e-14
    assert (many[3:] == 0).all()


@methods
@parities
@pytest.mark.parametrize("nodes", [0, 3])
def test_no_edges_and_no_nodes(nodes, complete, method):
    lead = (2,) if complete else ()
    x = torch.zeros(nodes, *lead, 4, 2, requires_grad=True)
    vectors, radial = torch.zeros(0, 3), torch.zeros(0, *lead, 2, 2, requires_grad=True)
    index = torch.zeros(2, 0, dtype=torch.int64)
    z = gaunt_convolution(x, vectors, radial, index, 2, method=method, complete=complete)
    assert z.shape == (nodes, *lead, 9, 2)
    assert (z == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(z.sum(), (x, radial)))


@methods
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_one_bad_node_leaves_all_but_its_neighbours_exact(poison, method, rng):
    x, vectors, radial = problem((2, 2, 2), False, rng)
    bad = x.clone()
    bad[0, 3] = poison  # edges lead from node 0 to 2 and 3
    z, poisoned = (
        gaunt_convolution(features, vectors, radial, EDGE_INDEX, 2, method=method)
        for features in (x, bad)
    )
    assert torch.equal(z[[0, 1, 4]], poisoned[[0, 1, 4]])
    assert not poisoned[[2, 3]].isfinite().all(-1).all(-1).any()


@methods
def test_layout_in_memory_does_not_matter(method, rng):
    x, vectors, radial = problem((2, 2, 2), False, rng)
    expected = gaunt_convolution(x, vectors, radial, EDGE_INDEX, 2, method=method)
    strided = [t.mT.contiguous().mT for t in (x, radial)]
    index = EDGE_INDEX.T.contiguous().T
    args = (strided[0], vectors.T.contiguous().T, strided[1], index, 2)
    assert relative_error(gaunt_convolution(*args, method=method), expected) < 1e-14
    alike = radial[:1].expand_as(radial)
    found, expected = (
        gaunt_convolution(x, vectors, weights, EDGE_INDEX, 2, method=method)
        for weights in (alike, alike.clone())
    )
    assert relative_error(found, expected) < 1e-14


BAD = {
    "x: no square": ({"x": (5, 5, 2)}, ValueError, r"x: expected \(L\+1\)\^2 coeff"),
    "x: one axis short": ({"x": (9, 2)}, ValueError, r"x: expected shape \(nodes, coeffs"),
    "x: both parities": ({"x": (5, 2, 9, 2)}, ValueError, "complete=False"),
    "x: integers": ({"x": torch.int64}, TypeError, "x: expected floating-point"),
    "vectors: one too few": ({"vectors": (7, 3)}, ValueError, r"vectors: expected shape \(8, 3\)"),
    "vectors: in a plane": ({"vectors": (8, 2)}, ValueError, r"got \(8, 2\)"),
    "radial: channels": ({"radial": (8, 3, 3)}, ValueError, "radial: expected shape"),
    "radial: edges": ({"radial": (7, 3, 2)}, ValueError, "radial: expected shape"),
    "radial: no degree": ({"radial": (8, 0, 2)}, ValueError, "largest degree of radial: .* got -1"),
    "radial: integers": ({"radial": torch.int32}, TypeError, "radial: expected floating-point"),
    "edge_index: three rows": ({"edge_index": (3, 8)}, ValueError, r"edge_index: .*\(2, edges\)"),
    "edge_index: int32": ({"edge_index": torch.int32}, TypeError, r"edge_index\[0\].*int64"),
    "lmax_out: negative": ({"lmax_out": -1}, ValueError, "lmax_out: expected a degree from 0"),
    "lmax_out: no integer": ({"lmax_out": 1.0}, TypeError, "lmax_out: expected a whole number"),
    "num_nodes: too few": ({"num_nodes": 3}, ValueError, r"edge_index\[1\] < num_nodes = 3"),
    "method: unknown": ({"method": "gird"}, ValueError, "method: expected one of auto, grid"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named(change, error, message, rng):
    x, vectors, radial = problem((2, 2, 2), False, rng)
    inputs = {"x": x, "vectors": vectors, "radial": radial, "edge_index": EDGE_INDEX, "lmax_out": 2}
    for name, value in change.items():
        if isinstance(value, tuple):
            inputs[name] = torch.zeros(value, dtype=inputs[name].dtype)
        elif isinstance(value, torch.dtype):
            inputs[name] = inputs[name].to(value)
        else:
            inputs[name] = value
    with pytest.raises(error, match=message):
        gaunt_convolution(**inputs)


@pytest.mark.unchecked
@pytest.mark.parametrize("entry", [-1, NODES])
@pytest.mark.parametrize("row", [0, 1])
def test_index_out_of_range_is_named(row, entry, rng):
    index = EDGE_INDEX.clone()
    index[row, 3] = entry
    with pytest.raises(ValueError, match=rf"edge_index\[{row}\] has entries from"):
        gaunt_convolution(*problem((1, 1, 1), False, rng), index, 1)


@pytest.mark.gpu
@methods
@parities
def test_gpu_matches_cpu(complete, method, rng):
    inputs = [t.requires_grad_() for t in problem((2, 3, 2), complete, rng)]
    on_gpu = [t.detach().cuda().requires_grad_() for t in inputs]
    results = [
        gaunt_convolution(*tensors, index, 2, method=method, complete=complete)
        for tensors, index in ((inputs, EDGE_INDEX), (on_gpu, EDGE_INDEX.cuda()))
    ]
    assert relative_error(results[1].cpu(), results[0]) < 1e-12
    gradients = [
        torch.autograd.grad(z.square().sum(), tensors)
        for z, tensors in zip(results, (inputs, on_gpu), strict=True)
    ]
    for a, b in zip(*gradients, strict=True):
        assert relative_error(b.cpu(), a) < 1e-12
