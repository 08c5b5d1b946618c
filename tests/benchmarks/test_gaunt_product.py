"""The peers of the Gaunt product compute the same, and its work is counted right."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.gaunt_product import (
    ALL,
    BENCHMARKS,
    CPU_GROWING,
    FOR_PEERS,
    _features,
    _work,
)
from benchmarks.measure import DisagreementError, compare
from benchmarks.registry import Foreign, MadeFor, Problem
from benchmarks.tensor_product_peers import (
    coefficients,
    cuequivariance_uuu,
    e3nn_uuu,
    from_mul_ir,
    to_mul_ir,
    torch_grid,
)
from tests.benchmarks.toys import CPU, PASSES

GAUNT, POISSON = BENCHMARKS
SMALL = {"small": Problem(partial(_features, (2, 1, 3), 3, 4))}
EQUAL = {"small": Problem(partial(_features, (2, 2, 2), 3, 4))}


def rows_of(benchmark, peers, problems=SMALL):
    ours = {"auto": benchmark.implementations["auto"]}
    benchmark = replace(benchmark, problems=problems, implementations=ours, peers=peers)
    rows = compare(benchmark, "small", CPU, repeats=1)
    return {(row.stage, row.name): row for row in rows}


@pytest.mark.parametrize("problems", [SMALL, EQUAL], ids=["mixed", "equal"])
@pytest.mark.parametrize("paths", ["even", "odd"])
def test_e3nn_computes_the_same_paths(paths, problems):
    benchmark = GAUNT if paths == "even" else POISSON
    rows = rows_of(benchmark, {"e3nn": e3nn_uuu(paths)}, problems)
    assert [rows[stage, "e3nn"].note for stage in PASSES] == [""] * 3
    # control: the other paths are something else
    other = {"e3nn": e3nn_uuu("odd" if paths == "even" else "even")}
    with pytest.raises(DisagreementError, match="output of e3nn, forward"):
        rows_of(benchmark, other, problems)


@pytest.mark.parametrize("problems", [SMALL, EQUAL], ids=["mixed", "equal"])
def test_grid_computes_the_same(problems):
    rows = rows_of(GAUNT, {"grid": torch_grid()}, problems)
    assert [rows[stage, "grid"].note for stage in PASSES] == [""] * 3


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "peer",
    [e3nn_uuu("even", compiled=True), torch_grid(compiled=True)],
    ids=["e3nn", "grid"],
)
def test_compiled_peers_compute_the_same(peer):
    rows = rows_of(GAUNT, {"peer": peer}, EQUAL)
    assert rows["forward", "peer"].note == ""
    assert rows["forward+backward", "peer"].note == ""


def test_long_compilations_are_refused():
    problems = {"small": Problem(partial(_features, (1, 3, 2), 3, 4))}
    rows = rows_of(GAUNT, {"e3nn": e3nn_uuu("even", compiled=True)}, problems)
    assert "minutes to compile" in rows["forward", "e3nn"].note


@pytest.mark.parametrize("paths", ["even", "odd"])
def test_cuequivariance_computes_the_same_paths(paths):
    pytest.importorskip("cuequivariance_torch", reason="an optional peer")
    peers = {name: cuequivariance_uuu(paths, name) for name in ("naive", "uniform_1d")}
    rows = rows_of(GAUNT if paths == "even" else POISSON, peers)
    assert [rows[stage, "naive"].note for stage in PASSES] == [""] * 3
    assert "needs a GPU" in rows["forward", "uniform_1d"].note


def test_products_of_all_paths_are_named_and_checked():
    def e3nn_of_all(inputs, computes, equals):
        peer = e3nn_uuu("all").make(inputs)
        return replace(peer, computes=computes, equals=equals)

    def both(x, y, lmax_out):
        product, bracket = (entry.implementations["auto"] for entry in BENCHMARKS)
        return product(x, y, lmax_out) + bracket(x, y, lmax_out)

    honest = MadeFor(partial(e3nn_of_all, computes="all paths", equals=both))
    rows = rows_of(GAUNT, {"e3nn": honest})
    assert rows["double backward", "e3nn"].computes == "all paths"
    assert rows["double backward", "e3nn"].note == ""
    with pytest.raises(DisagreementError):
        rows_of(GAUNT, {"e3nn": MadeFor(partial(e3nn_of_all, computes="", equals=None))})


def test_all_paths_of_cuequivariance_say_so():
    names = [name for name in GAUNT.peers if name.endswith("all paths")]
    assert len(names) == 2
    offers = [GAUNT.peers[name] for name in names]
    if isinstance(offers[0], str):
        pytest.skip(offers[0])
    made = offers[0].operation.make(_features((2, 1, 3), 3, 4, torch.Generator()))
    assert isinstance(made, Foreign)
    assert made.computes == "all paths, even and odd"
    rows = rows_of(GAUNT, {"all": offers[0].operation})
    assert rows["forward", "all"].note == ""


def test_layout_is_that_of_e3nn(rng):
    from e3nn import o3

    x = torch.randn(5, 16, 3, generator=rng)
    flat = to_mul_ir(x)
    assert flat.shape == (5, 48)
    irreps = o3.Irreps("3x0e + 3x1o + 3x2e + 3x3o")
    for degree, part in enumerate(irreps.slices()):
        block = flat[:, part].reshape(5, 3, 2 * degree + 1)
        torch.testing.assert_close(block.mT, x[:, degree**2 : (degree + 1) ** 2], rtol=0, atol=0)
    torch.testing.assert_close(from_mul_ir(flat, 3), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("lmax", "nonzeros"), [(1, 10), (2, 83), (3, 353), (4, 1158)], ids="L={}".format
)
def test_work_of_equal_degrees(lmax, nonzeros):
    inputs = _features((lmax,) * 3, 5, 7, torch.Generator())
    rows, coeffs = 35, (lmax + 1) ** 2
    forward, both, double = (_work(False, inputs, stage, "naive") for stage in PASSES)
    assert forward.bytes == 12 * coeffs * rows
    assert both.bytes == (12 + 20) * coeffs * rows
    assert double.bytes == (12 + 20 + 32) * coeffs * rows
    assert [work.flops for work in (forward, both, double)] == [
        count * 3 * nonzeros * rows for count in (1, 3, 7)
    ]
    assert int(coefficients("even", lmax, lmax, lmax).count_nonzero()) == nonzeros


def test_work_on_a_grid():
    inputs = _features((4, 4, 4), 5, 7, torch.Generator())
    points = 37  # of half a Lebedev grid for degree 12
    flops = [_work(False, inputs, stage, "triton").flops for stage in PASSES]
    assert flops == [2 * 35 * points * 25 * tables for tables in (3, 8, 16)]
    assert _work(False, inputs, "forward", "blocked").flops == 2 * flops[0]
    assert _work(False, inputs, "forward", "fourier").flops is None
    # the bracket: two tables to evaluate, one degree less to integrate
    bracket = _work(True, inputs, "forward", "triton")
    assert bracket.flops == 2 * 35 * 25 * 25 * (2 + 2 + 1)
    assert bracket.bytes == _work(False, inputs, "forward", "triton").bytes


def test_triton_sums_over_coefficients_at_low_degree():
    inputs = _features((3, 3, 3), 5, 7, torch.Generator())
    works = [_work(False, inputs, "forward", name) for name in ("naive", "triton")]
    assert works[0] == works[1]


def test_work_of_mixed_degrees():
    work = _work(False, _features((4, 2, 3), 5, 7, torch.Generator()), "forward+backward", "naive")
    assert work.bytes == 4 * 35 * (3 * 25 + 3 * 9 + 2 * 16)


def test_work_of_auto_is_that_of_what_it_picks(monkeypatch):
    monkeypatch.setattr("benchmarks.gaunt_product.pick", lambda *given: ("fourier", "a test"))
    inputs = _features((2, 2, 2), 5, 7, torch.Generator())
    assert _work(False, inputs, "forward", "auto").flops is None


def test_problems_are_those_of_the_comparison():
    names = {device: GAUNT.problems_for(device) for device in ("cpu", "cuda")}
    assert len(names["cpu"]) + len(names["cuda"]) == len(ALL)
    places = {device: [ALL[name].place for name in found] for device, found in names.items()}
    rows = {place["rows"] for place in places["cpu"] if place.get("degree") == 2}
    assert rows == {2**power for power in (14, 16, 18, 20, 22)}
    assert {place.get("degree") for place in places["cpu"]} == {None, 1, 2, 3, 4, 6}
    assert {place.get("degree") for place in places["cuda"]} == {None, *range(1, 9)}
    assert {"L=6, 512 x 32", "L=4 x 2 to 4, 2,048 x 32"} <= FOR_PEERS
    assert not FOR_PEERS & CPU_GROWING.keys()
