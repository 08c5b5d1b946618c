"""Sums over pairs and their products in one pass, against the definition of the sums."""

from itertools import pairwise

import pytest
import torch
from torch.library import opcheck

from eqlib.kernels.pair_linear import Pairs, compiled, naive, pair_mix, whynot_mix
from eqlib.kernels.pair_linear.arguments import Reduction
from tests.kernels.pair_linear.test_compiled import ROWS, TOLERANCE, make_pairs

WIDTHS = {
    "all orders": (5, 3, 2, 4, 6, 7),
    "whole vectors": (16, 16, 16, 16, 16, 16),
    "several panels": (30, 17, 5, 40, 33, 9),
    "pairs to pairs": (5, 0, 0, 4, 0, 0),
    "nodes to nodes": (0, 5, 0, 0, 4, 0),
    "scalars to scalars": (0, 0, 5, 0, 0, 4),
    "pairs to scalars": (5, 0, 0, 0, 0, 4),
    "scalars to pairs": (0, 0, 5, 4, 0, 0),
    "nodes to pairs": (0, 5, 0, 4, 0, 0),
}
"""Channels of pairs, nodes and scalars, and of the results."""
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := whynot_mix(torch.device("cpu"), torch.float64):
        pytest.skip(reason)


def make(sizes, widths, nodes, rng, dtype=torch.float64):
    """The arguments but for the last, whether to normalise."""
    pairs = make_pairs(sizes, nodes, False, rng)
    c2, c1, c0, s2, s1, s0 = widths
    places = 2 * s2 + s1 + s0
    shapes = [
        (len(pairs.transpose), c2),
        (len(pairs.subgraph), c1),
        (len(sizes), c0),
        (3 * c2 + c1, 3 * s2 + s1),
        (2 * c2 + c1 + c0, places),
        (places,),
    ]
    reals = [torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype) for shape in shapes]
    return [*reals, *pairs, [s2, s1, s0]]


def expected(arguments, normalised):
    """The formula, one subgraph after the other, in float64."""
    reals, outputs = [real.double() for real in arguments[:6]], arguments[-1]
    x, nodes, scalars, vector_weight, scalar_weight, bias = reals
    pairs = Pairs(*arguments[6:-1])
    c2, (s2, s1, _) = x.shape[1], outputs
    sums = naive.reduce(Reduction(x, None, pairs))
    spread, out, ends = [], [], pairs.starts.tolist()
    scalar_out = []
    for e, (first, last) in enumerate(pairwise(ends)):
        m = max(last - first, 1) if normalised else 1
        v = sums[first:last].clone()
        v[:, c2:] /= m
        v = torch.cat([v, nodes[first:last]], 1)
        total = torch.cat([v[:, : 2 * c2], v[:, 3 * c2 :]], 1).sum(0) / m
        t = torch.cat([total, scalars[e]]) @ scalar_weight + bias
        zero = torch.zeros(s2, dtype=torch.float64)
        u = v @ vector_weight + torch.cat([t[: 2 * s2], zero, t[2 * s2 : 2 * s2 + s1]])
        spread.append(u[:, : 3 * s2])
        out.append(u[:, 3 * s2 :])
        scalar_out.append(t[None, 2 * s2 + s1 :])
    none = [torch.zeros(0, width, dtype=torch.float64) for width in (3 * s2, *outputs[1:])]
    parts = zip(none, (spread, out, scalar_out), strict=True)
    return [torch.cat([empty, *rows]) for empty, rows in parts]


def close(found, reference, tolerance):
    scale = max(1.0, float(reference.abs().max()) if reference.numel() else 0.0)
    return found.shape == reference.shape and torch.all(
        (found - reference).abs() <= tolerance * scale
    )


@dtypes
@pytest.mark.parametrize("nodes", [None, 40], ids=["own rows", "shared rows"])
@pytest.mark.parametrize("sizes", ROWS.values(), ids=ROWS.keys())
def test_matches_the_formula(sizes, nodes, dtype, rng):
    for normalised in (True, False):
        arguments = make(sizes, WIDTHS["all orders"], nodes, rng, dtype)
        found = pair_mix(*arguments, normalised)
        for a, b in zip(found, expected(arguments, normalised), strict=True):
            assert a.dtype == dtype
            assert close(a, b, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS.keys())
def test_any_orders_and_channels(widths, dtype, rng):
    arguments = make(ROWS["sizes of molecules"], widths, None, rng, dtype)
    found = pair_mix(*arguments, True)
    for a, b in zip(found, expected(arguments, True), strict=True):
        assert close(a, b, TOLERANCE[dtype])


def test_sizes_and_order_matter(rng):
    arguments = make(ROWS["sizes of molecules"], WIDTHS["all orders"], None, rng)
    reference = expected(arguments, True)
    assert not close(pair_mix(*arguments, False)[0], reference[0], 1e-2)
    turned = [arguments[0][arguments[6]], *arguments[1:]]
    assert not close(pair_mix(*turned, True)[0], reference[0], 1e-2)


@pytest.mark.parametrize("threads", [2, 3, 16], ids=lambda count: f"{count} threads")
def test_threads_change_nothing(threads, rng, monkeypatch):
    arguments = make([*ROWS["several blocks"], 100, 3, 2], WIDTHS["all orders"], None, rng)
    one = pair_mix(*arguments, True)
    monkeypatch.setattr(compiled, "count_threads", lambda work: threads)
    several = pair_mix(*arguments, True)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


def test_strided_features(rng):
    arguments = make(ROWS["sizes of molecules"], WIDTHS["all orders"], None, rng)
    one = pair_mix(*arguments, True)
    strided = [real.mT.contiguous().mT if real.ndim == 2 else real for real in arguments[:6]]
    several = pair_mix(*strided, *arguments[6:], True)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


@pytest.mark.unchecked
def test_is_registered(rng):
    arguments = make([2, 3, 1], WIDTHS["all orders"], 7, rng)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    opcheck(torch.ops.eqlib.pair_mix.default, (*arguments, True), test_utils=tests)


@pytest.mark.unchecked
def test_bad_input_is_refused(rng):
    arguments = make([2, 3], WIDTHS["all orders"], None, rng)
    half = [real.half() for real in arguments[:6]]
    with pytest.raises(ValueError, match="pair_mix cannot run: it is for float32 and float64"):
        pair_mix(*half, *arguments[6:], True)
    with pytest.raises(TypeError, match=r"bias: expected torch.float64, as x, got torch.float32"):
        pair_mix(*arguments[:5], arguments[5].float(), *arguments[6:], True)
    with pytest.raises(ValueError, match=r"vector_weight: expected shape \(18, 18\), got"):
        pair_mix(*arguments[:3], arguments[3][:-1], *arguments[4:], True)
    rooted = [*arguments[:12], arguments[7][:-1], *arguments[13:]]
    with pytest.raises(ValueError, match="root: expected None, got a tensor"):
        pair_mix(*rooted, True)
    with pytest.raises(ValueError, match="nodes: expected shape"):
        pair_mix(arguments[0], arguments[1][1:], *arguments[2:], True)
