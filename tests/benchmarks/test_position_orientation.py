"""The networks that are timed against each other compute the same."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.answers import Question, make_inputs, prepare
from benchmarks.materialising import MaterialisingNet
from benchmarks.measure import compare
from benchmarks.position_orientation import BENCHMARKS, _contenders, _messages, _ring, _systems
from benchmarks.position_orientation_profile import profile
from eqlib.position_orientation import EdgeOptions, KernelOptions, PositionOrientationNet
from tests.benchmarks.toys import CPU

STEP, LARGE_STEP, CONV = BENCHMARKS
SMALL = {"small": partial(_ring, 12, 48)}


def networks(**options):
    """Return both networks with the same weights, in float64."""
    made = []
    for kind in (PositionOrientationNet, MaterialisingNet):
        torch.manual_seed(0)
        kernel = KernelOptions(hidden=8, basis=8, softening=0.3)
        net = kind(
            2, 1, 1, 1, channels=8, layers=2, exact=False, edge_scalars=1, kernel=kernel, **options
        )
        made.append(net.double())
    return made


def inputs_of(make, rng):
    inputs = make(rng)
    real = [name for name, value in inputs.items() if torch.is_tensor(value)]
    real = [name for name in real if inputs[name].is_floating_point()]
    return {**inputs, **{name: inputs[name].double().requires_grad_() for name in real}}


@pytest.mark.parametrize(
    "edges",
    [EdgeOptions(paired=False), EdgeOptions(paired=True), EdgeOptions(length=2.0, reach=None)],
    ids=["single", "paired", "unbounded"],
)
@pytest.mark.parametrize("orientations", [12, 20])
def test_networks_agree_in_values_and_gradients(edges, orientations, rng):
    inputs = inputs_of(partial(_ring, 12, 48), rng)
    inputs["edge_scalars"].requires_grad_(False)  # of a pair, one direction alone would get it
    leaves = [value for value in inputs.values() if torch.is_tensor(value) and value.requires_grad]
    answers = []
    for net in networks(edges=edges, orientations=orientations, group="E(3)"):
        found = net(**inputs)
        seeds = [torch.linspace(-1, 2, part.numel()).double() for part in found[:2]]
        total = sum((part.flatten() * seed).sum() for part, seed in zip(found, seeds, strict=False))
        wanted = [*leaves, *net.parameters()]
        gradients = torch.autograd.grad(total, wanted, materialize_grads=True)
        answers.append([*found, *gradients])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_networks_of_other_kernels_differ(rng):
    inputs = inputs_of(partial(_ring, 12, 48), rng)
    ours, materialising = networks(group="E(3)")
    with torch.no_grad():
        materialising.layers[1].spatial.weight[0, 0] += 1e-3
    error = (ours(**inputs).vectors - materialising(**inputs).vectors).abs().max()
    assert error > 1e-7


@pytest.mark.unchecked
def test_the_materialising_network_asks_for_all_inputs(rng):
    inputs = inputs_of(_systems, rng)
    _, materialising = networks(group="E(3)")
    with pytest.raises(ValueError, match="expected scalars, vectors, edge_index and edge_scalars"):
        materialising(**{**inputs, "edge_index": None})


def test_edges_go_both_ways(rng):
    source, target = _ring(10, 40, rng)["edge_index"]
    pairs = set(zip(source.tolist(), target.tolist(), strict=True))
    assert len(pairs) == 40
    assert pairs == {(b, a) for a, b in pairs}
    assert all(a != b for a, b in pairs)


def test_eager_networks_are_timed_and_agree():
    eager = {name: kind for name, kind in _contenders(8).items() if not kind.compiled}
    benchmark = replace(STEP, problems=SMALL, implementations=eager)
    rows = compare(benchmark, "small", CPU, repeats=1)
    assert [row.name for row in rows] == ["eqlib", "eqlib, recompute", "materialising"]
    assert {row.note for row in rows} == {""}


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inductor's own
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_compiled_network_agrees():
    benchmark = replace(STEP, problems=SMALL, implementations=_contenders(8))
    inputs = make_inputs(benchmark, "small", CPU)
    contenders = {name: kind() for name, kind in _contenders(8).items()}
    for net in contenders.values():
        net.load_state_dict(contenders["eqlib"].state_dict())
    _, notes = prepare(Question(benchmark, "forward+backward", inputs), contenders)
    assert notes == {}


def test_implementations_of_the_convolution_agree():
    small = {"small": partial(_messages, 6, 20, 4, 8, 8, 8)}
    rows = compare(replace(CONV, problems=small), "small", CPU, repeats=1)
    assert {row.note for row in rows} == {""}
    assert {row.stage for row in rows} == {"forward", "forward+backward"}


def test_the_large_step_waits_for_a_gpu():
    assert LARGE_STEP.problems_for("cpu") == []
    assert len(LARGE_STEP.problems_for("cuda")) == 1


def test_a_profile_names_operations_and_memory(rng):
    network = _contenders(8)["materialising"]()
    lines = profile(network, _ring(12, 48, rng), CPU).splitlines()
    assert lines[0].split()[0] == "peak"
    assert float(lines[0].split()[1]) > 0
    assert any("aten::index_select" in line or "aten::mm" in line for line in lines[1:])
    parts = [float(line.split("%")[0]) for line in lines[1:]]
    assert parts == sorted(parts, reverse=True)
    assert sum(parts) <= 100
